// The rogue guard does what the command's text says, with cells what their
// column is called or the text behind "mask" is, and with a request what the cookie
// says.
package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guard"
)

func init() { guard.Register(&rogue{}) }

type rogue struct {
	calls  int
	symbol uint32
	sink   [][]byte
	seen   []byte // of cells
}

func (r *rogue) Configure(config []byte) error {
	r.symbol = guard.Symbol("public\x00orders")
	if strings.Contains(string(config), "refuse") {
		return fmt.Errorf("the configuration is not to my taste")
	}
	return nil
}

func (r *rogue) SessionOpen(s *abi.Session, v *abi.Verdict) {
	if v.Decision = abi.Allow; s.Subject == "eve" {
		v.Decision = abi.Deny
	}
}

func deep(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + deep(n+1)
}

func (r *rogue) Command(c *abi.Command, v *abi.Verdict) {
	r.calls++
	v.Decision = abi.Allow
	if what, ok := strings.CutPrefix(c.Statement.Text, "mask "); ok {
		v.Protect = []abi.Protect{{Pattern: ".+", Kind: abi.MaskCustom, Arg: what}}
	}
	switch c.Statement.Text {
	case "loop":
		for {
		}
	case "recursion":
		v.Risk = uint32(deep(1))
	case "panic":
		panic("on purpose")
	case "bomb":
		for {
			r.sink = append(r.sink, make([]byte, 1<<20))
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "log":
		for range 1 << 20 {
			guard.Log("line")
		}
	case "deny":
		v.Decision = abi.Deny
		v.Reason.Message = "because"
	case "unset":
		v.Decision = abi.Unset
	case "huge":
		v.Cookie = make([]byte, 100<<10)
	case "count":
		v.Reason.Detail = strconv.Itoa(r.calls)
	case "symbol":
		v.Reason.Detail = strconv.FormatBool(r.symbol != 0 && c.Statement.Operations[0].Symbol == r.symbol)
	case "time":
		v.Reason.Detail = strconv.FormatInt(time.Now().UnixNano(), 10)
	case "recall":
		v.Reason.Message = fmt.Sprintf("%d %s", r.calls, r.seen)
		guard.Log(v.Reason.Message)
	case "work":
		var keep []string
		for i := range 2000 {
			keep = append(keep, strconv.Itoa(i))
		}
		v.Risk = uint32(len(keep))
	}
}

func (r *rogue) ResultSchema(s *abi.ResultSchema, p *abi.MaskPlan) {
	p.Default = abi.MaskPass
	for i := range s.Columns {
		p.Kinds, p.Args = append(p.Kinds, abi.MaskCustom), append(p.Args, s.Columns[i].Name)
		if s.Columns[i].Name == "plain" {
			p.Kinds[i] = abi.MaskPass
		}
	}
}

func (r *rogue) ResultBatch(in, out *abi.Batch) {
	r.calls++
	from, to := &in.Columns[0], &out.Columns[0]
	if from.Arg == "copy" {
		for row := range in.Rows {
			cell, ok := from.Cell(row)
			to.Add(cell, !ok)
		}
		return
	}
	first, _ := from.Cell(0)
	r.seen = append([]byte(nil), first...)
	for i := range in.Columns {
		for row := range in.Rows {
			cell, ok := in.Columns[i].Cell(row)
			out.Columns[i].Add([]byte(strings.ToUpper(string(cell))), !ok)
		}
	}
	switch from.Arg {
	case "panic":
		panic(string(first))
	case "index":
		_ = first[len(first)+int(first[0])]
	case "print":
		println(string(first))
		guard.Log(string(first))
	case "loop":
		for {
		}
	case "recursion":
		deep(1)
	case "bomb":
		for {
			r.sink = append(r.sink, append(make([]byte, 1<<20), first...))
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "forget":
		to.Reset()
		to.Add([]byte("x"), false)
	case "fewer rows":
		to.Reset()
		out.Rows--
	case "more rows":
		to.Add(first, false)
	case "no columns":
		out.Columns = nil
	case "more columns":
		out.Columns = append(out.Columns, *to)
	case "another column":
		to.Index++
	case "another type":
		to.Type++
	case "another format":
		to.Binary = !to.Binary
	case "not UTF-8":
		to.Bytes[0] = 0xff
	case "NUL":
		to.Bytes[0] = 0
	case "huge":
		to.Reset()
		for range in.Rows {
			to.Add(make([]byte, 1000+5*len(from.Bytes)), false)
		}
	case "bitmap":
		to.Valid = append(to.Valid, 255)
	case "back":
		to.Offsets[1] = 1 << 31
	}
}

func (r *rogue) Approval(a *abi.Approval, v *abi.Verdict) {
	v.Decision = abi.Allow
	switch string(a.Cookie) {
	case "panic":
		panic("on purpose")
	case "loop":
		for {
		}
	case "deny":
		v.Decision = abi.Deny
		v.Reason.Message = fmt.Sprintf("%s: %d people, the first %s of %v", a.ID, len(a.Voices), a.Voices[0].Subject, a.Voices[0].Groups)
	case "unset":
		v.Decision = abi.Unset
	case "session":
		v.Reason.Detail = a.Session.Task + a.Session.Subject
	}
}

func main() {}
