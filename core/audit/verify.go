package audit

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/taskgate/taskgate/core/gate"
)

// keyName stands in the signed notes.
const keyName = "taskgate-audit"

// signer reads the signing key, making one on the first start.
func signer(dir string) (note.Signer, error) {
	path := filepath.Join(dir, "key")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		secret, public, e := note.GenerateKey(rand.Reader, keyName)
		if e != nil {
			return nil, fmt.Errorf("audit: %w", e)
		}
		if e := os.WriteFile(path, []byte(secret+"\n"), 0o600); e != nil {
			return nil, fmt.Errorf("audit: %w", e)
		}
		if e := os.WriteFile(filepath.Join(dir, "key.pub"), []byte(public+"\n"), 0o644); e != nil {
			return nil, fmt.Errorf("audit: %w", e)
		}
		b, err = []byte(secret), nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	s, err := note.NewSigner(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("audit: %s: %w", path, err)
	}
	return s, nil
}

// checkpointLine is one line of the checkpoint file and of a witness.
type checkpointLine struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
	Note string `json:"note"` // signed over "taskgate audit\n<seq>\n<hash>\n"
}

func checkpointText(seq uint64, hash string) string {
	return fmt.Sprintf("taskgate audit\n%d\n%s\n", seq, hash)
}

// checkpoint signs where the chain stands.
func (l *Log) checkpoint() error {
	l.mu.Lock()
	seq, last, done := l.seq, l.last, l.signed
	l.mu.Unlock()
	if seq == done {
		return nil
	}
	line := checkpointLine{Seq: seq, Hash: hex.EncodeToString(last[:])}
	signed, err := note.Sign(&note.Note{Text: checkpointText(line.Seq, line.Hash)}, l.signer)
	if err != nil {
		return fmt.Errorf("audit: checkpoint: %w", err)
	}
	line.Note = string(signed)
	raw, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("audit: checkpoint: %w", err)
	}
	paths := []string{filepath.Join(l.dir, "checkpoints")}
	if l.opt.Witness != "" {
		paths = append(paths, l.opt.Witness)
	}
	for _, p := range paths {
		if err := appendLine(p, raw); err != nil {
			return fmt.Errorf("audit: checkpoint: %w", err)
		}
	}
	l.mu.Lock()
	l.signed = seq
	l.mu.Unlock()
	return nil
}

func appendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if e := f.Sync(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// Report is what Verify found.
type Report struct {
	Records     uint64
	Checkpoints int
	Signed      uint64 // the last record that a checkpoint covers
	Witnessed   bool   // a witness was given and agrees
	Torn        []Torn // tails that a crash left, each reported in the log itself
}

// Bad is the first record that is not what it was.
type Bad struct {
	Segment string
	Offset  int
	Seq     uint64
	What    string
}

func (b *Bad) Error() string {
	return fmt.Sprintf("audit: %s: offset %d: record %d: %s", b.Segment, b.Offset, b.Seq, b.What)
}

// Verify reads the whole log and holds it against its checkpoints, and against
// a witness's copy of them where there is one. key is the public key in the
// form that key.pub has; empty takes the log's own, which then proves nothing
// against whoever could replace it. The error names the first bad record.
func Verify(dir, key, witness string) (rep Report, err error) {
	if key == "" {
		b, err := os.ReadFile(filepath.Join(dir, "key.pub"))
		if err != nil {
			return rep, fmt.Errorf("audit: %w", err)
		}
		key = string(b)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return rep, fmt.Errorf("audit: public key: %w", err)
	}
	points, err := readCheckpoints(filepath.Join(dir, "checkpoints"), verifier)
	if err != nil {
		return rep, err
	}
	rep.Checkpoints = len(points)
	var seen []checkpointLine
	if witness != "" {
		if seen, err = readCheckpoints(witness, verifier); err != nil {
			return rep, err
		}
		rep.Witnessed = true
	}
	want := map[uint64]string{}
	for _, p := range append(points, seen...) {
		if h, ok := want[p.Seq]; ok && h != p.Hash {
			return rep, fmt.Errorf("audit: two checkpoints of record %d differ: the history was rewritten", p.Seq)
		}
		want[p.Seq] = p.Hash
		rep.Signed = max(rep.Signed, p.Seq)
	}
	if err := rep.walk(dir, want); err != nil {
		return rep, err
	}
	if rep.Signed > rep.Records {
		return rep, fmt.Errorf("audit: the tail is missing: a checkpoint covers record %d, the log ends with %d", rep.Signed, rep.Records)
	}
	return rep, nil
}

func (rep *Report) walk(dir string, want map[uint64]string) error {
	names, err := segments(dir)
	if err != nil {
		return err
	}
	var last [hashSize]byte
	var torn *Torn
	var clock int64
	for i, name := range names {
		s, err := openSegment(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if s.first != rep.Records+1 || s.prev != last {
			return &Bad{name, 0, s.first, fmt.Sprintf("the segment does not follow record %d", rep.Records)}
		}
		for at := s.at; s.next(); at = s.at {
			if torn != nil {
				e, err := gate.ReadEvent(s.payload)
				if err != nil || e.Kind != gate.EventNote || !strings.Contains(e.Why, torn.String()) {
					return &Bad{torn.Segment, torn.Offset, torn.After + 1, "the record is damaged, and no start has reported it"}
				}
				rep.Torn = append(rep.Torn, *torn)
				torn = nil
			}
			if h, ok := want[s.seq]; ok && h != hex.EncodeToString(s.sum[:]) {
				return &Bad{name, at, s.seq, "it is not what its checkpoint signed"}
			}
			if s.nanos < clock {
				return &Bad{name, at, s.seq, "its time is before that of the record before it"}
			}
			clock = s.nanos
			rep.Records, last = s.seq, s.sum
		}
		if s.fault != nil {
			torn = &Torn{Segment: name, Offset: s.at, Bytes: s.tail(), After: rep.Records}
			if i == len(names)-1 {
				return &Bad{name, s.at, rep.Records + 1, s.fault.Error()}
			}
		}
	}
	if torn != nil {
		return &Bad{torn.Segment, torn.Offset, torn.After + 1, "the record is damaged, and no start has reported it"}
	}
	return nil
}

func readCheckpoints(path string, verifier note.Verifier) ([]checkpointLine, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	defer f.Close()
	var list []checkpointLine
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var c checkpointLine
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("audit: %s:%d: %w", path, n, err)
		}
		signed, err := note.Open([]byte(c.Note), note.VerifierList(verifier))
		if err != nil {
			return nil, fmt.Errorf("audit: %s:%d: %w", path, n, err)
		}
		if signed.Text != checkpointText(c.Seq, c.Hash) {
			return nil, fmt.Errorf("audit: %s:%d: what is signed is not what the line says", path, n)
		}
		list = append(list, c)
	}
	return list, lines.Err()
}
