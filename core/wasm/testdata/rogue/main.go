// The rogue guard does what the command's text says.
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
	case "work":
		var keep []string
		for i := range 2000 {
			keep = append(keep, strconv.Itoa(i))
		}
		v.Risk = uint32(len(keep))
	}
}

func main() {}
