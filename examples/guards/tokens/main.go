// The tokens guard hides words that look drawn by lot, as keys and tokens are, in
// what hosts answer: in what programs print, and in files that are read. It opens
// nothing: what may run is for others to say.
package main

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guard"
)

func init() { guard.Register(&tokens{bits: 3.5}) }

type tokens struct {
	bits float64
	pass []string
}

// Configure implements guard.Configurer.
func (t *tokens) Configure(config []byte) error {
	var c struct {
		Bits float64  `json:"bits"`
		Pass []string `json:"pass"` // programs that speak to programs, as git-upload-pack does
	}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &c); err != nil {
			return err
		}
	}
	if c.Bits > 0 {
		t.bits = c.Bits
	}
	t.pass = c.Pass
	return nil
}

// Command has no opinion, but wants to see what could be a token before anybody
// else does. Who is not shown a file is not shown its size either.
func (t *tokens) Command(c *abi.Command, v *abi.Verdict) {
	v.Decision = abi.Abstain
	if c.Statement.Protocol != "ssh" {
		return
	}
	for i := range c.Statement.Operations {
		switch o := &c.Statement.Operations[i]; o.Verb {
		case "exec", "shell", "read", "list", "stat":
			if o.Kind == abi.KindProgram && slices.Contains(t.pass, o.Object[0]) {
				continue
			}
			v.Protect = []abi.Protect{{Pattern: `[A-Za-z0-9+/_=.-]{20,}`, Kind: abi.MaskCustom}}
			return
		}
	}
}

// ResultBatch implements guard.ResultBatcher: each cell is one such word.
func (t *tokens) ResultBatch(in, out *abi.Batch) {
	from, to := &in.Columns[0], &out.Columns[0]
	for row := range in.Rows {
		word, ok := from.Cell(row)
		if ok && t.drawn(word) {
			word = append(word[:4:4], "***"...)
		}
		to.Add(word, !ok)
	}
}

// drawn says whether a word has capitals, small letters and digits, and as many
// bits in a character as no language has.
func (t *tokens) drawn(word []byte) bool {
	var seen [256]float64
	for _, c := range word {
		seen[c]++
	}
	bits := 0.0
	for _, n := range seen {
		if n > 0 {
			bits -= n / float64(len(word)) * math.Log2(n/float64(len(word)))
		}
	}
	s := string(word)
	return bits >= t.bits && strings.ContainsAny(s, "0123456789") && strings.ToLower(s) != s && strings.ToUpper(s) != s
}

func main() {}
