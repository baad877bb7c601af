package audit

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// keyName stands in the signed notes.
const keyName = "taskgate-audit"

// key reads the signing key, making one on the first start.
func (l *Log) key() (note.Signer, error) {
	path := filepath.Join(l.dir, "key")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		secret, public, e := note.GenerateKey(rand.Reader, keyName)
		if e != nil {
			return nil, fmt.Errorf("audit: %w", e)
		}
		// The secret last: once there is one, it is whole and has its public half.
		if e := l.writeFile(filepath.Join(l.dir, "key.pub"), public+"\n", 0o644); e != nil {
			return nil, e
		}
		if e := l.writeFile(path, secret+"\n", 0o600); e != nil {
			return nil, e
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

// writeFile gives a file its content as a whole, on disk, or not at all.
func (l *Log) writeFile(path, text string, mode os.FileMode) error {
	part := path + ".new"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err = f.WriteString(text)
	if e := l.sync(f); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return l.syncDir()
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

// checkpoint signs where the chain stands, once that is on disk: what is signed
// must not be lost.
func (l *Log) checkpoint() error {
	l.mu.Lock()
	seq, last, done, err := l.seq, l.last, l.signed, l.err
	l.mu.Unlock()
	if err == nil && seq != done {
		err = l.flush(seq)
	}
	if err != nil || seq == done {
		return err
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

// tornLine ends a line that a crash or a full disk has cut short, so that what
// comes behind it stands in a line of its own. A witness may be a file that can
// only be appended to.
const tornLine = " torn\n"

func appendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if st, e := f.Stat(); e == nil && st.Mode().IsRegular() && st.Size() > 0 {
		var last [1]byte
		if _, err = f.ReadAt(last[:], st.Size()-1); err == nil && last[0] != '\n' {
			line = append([]byte(tornLine), line...)
		}
	}
	if err == nil {
		_, err = f.Write(line)
	}
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
	Signed      uint64   // the last record that a checkpoint covers
	Witnessed   bool     // a witness was given and agrees
	Torn        []Torn   // tails that a crash left, each reported in the log itself
	TornLines   []string // checkpoints that were cut short, by file and line
}

// Bad is the first record that is not what it was.
type Bad struct {
	Segment string
	Offset  int
	Seq     uint64
	What    string
}

// Error names the place.
func (b *Bad) Error() string {
	return fmt.Sprintf("audit: %s: offset %d: record %d: %s", b.Segment, b.Offset, b.Seq, b.What)
}

// IsPublicKey says whether a text is a public key in the form that key.pub has.
func IsPublicKey(text string) bool {
	_, err := note.NewVerifier(strings.TrimSpace(text))
	return err == nil
}

// Verify reads the whole log and holds it against its checkpoints, and against
// a witness's copy of them where one is named, which has to have some. key is the public key in the
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
	points, err := rep.readCheckpoints(filepath.Join(dir, "checkpoints"), verifier)
	if err != nil {
		return rep, err
	}
	rep.Checkpoints = len(points)
	var seen []checkpointLine
	if witness != "" {
		if seen, err = rep.readCheckpoints(witness, verifier); err != nil {
			return rep, err
		}
		if len(seen) == 0 {
			return rep, fmt.Errorf("audit: %s: there is no checkpoint, so that it is a witness of nothing", witness)
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
	rep.Torn, err = walk(dir, func(r Record, sum [hashSize]byte) error {
		if h, ok := want[r.Seq]; ok && h != hex.EncodeToString(sum[:]) {
			return &Bad{r.Segment, r.Offset, r.Seq, "it is not what its checkpoint signed"}
		}
		rep.Records = r.Seq
		return nil
	})
	if err != nil {
		return rep, err
	}
	if rep.Signed > rep.Records {
		return rep, fmt.Errorf("audit: the tail is missing: a checkpoint covers record %d, the log ends with %d", rep.Signed, rep.Records)
	}
	return rep, nil
}

// readCheckpoints gives the checkpoints of a file, each signed by that key.
func (rep *Report) readCheckpoints(path string, verifier note.Verifier) ([]checkpointLine, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	var list []checkpointLine
	n := 0
	for text := range strings.Lines(string(b)) {
		n++
		if strings.HasSuffix(text, tornLine) || !strings.HasSuffix(text, "\n") {
			rep.TornLines = append(rep.TornLines, fmt.Sprintf("%s:%d", path, n))
			continue
		}
		var c checkpointLine
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return nil, fmt.Errorf("audit: %s:%d: %w", path, n, err)
		}
		signed, err := note.Open([]byte(c.Note), note.VerifierList(verifier))
		if err != nil {
			return nil, fmt.Errorf("audit: %s:%d: %w", path, n, err)
		}
		if signed.Text != checkpointText(c.Seq, c.Hash) {
			return nil, fmt.Errorf("audit: %s:%d: what is signed is not what the line says", path, n)
		}
		for _, sig := range signed.Sigs { // the last character of base64 has bits that say nothing
			if b, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil || len(b) == 0 {
				return nil, fmt.Errorf("audit: %s:%d: the signature is not as it was written", path, n)
			}
		}
		list = append(list, c)
	}
	return list, nil
}
