// The freeze guard refuses every write to the tables that its configuration
// names, whatever the task allows. It opens nothing: what it does not refuse
// it leaves to others.
package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guard"
)

func init() { guard.Register(&freeze{}) }

type freeze struct {
	Tables []string `json:"tables"`
}

func (f *freeze) Configure(config []byte) error { return json.Unmarshal(config, f) }

func (f *freeze) Command(c *abi.Command, v *abi.Verdict) {
	v.Decision = abi.Abstain
	for i := range c.Statement.Operations {
		o := &c.Statement.Operations[i]
		if table := strings.Join(o.Object, "."); o.Effect.Writes() && slices.Contains(f.Tables, table) {
			v.Decision = abi.Deny
			v.Reason = abi.Reason{Code: "freeze.frozen", Message: table + " is frozen", Hint: "reading goes on; writes come back when the freeze is over"}
			return
		}
	}
}

func main() {}
