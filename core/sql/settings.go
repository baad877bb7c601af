package sql

import (
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// settingRead takes current_setting('name') as SHOW name. It gives which
// functions are then accepted, nil where the call is no such.
func (a *analyzer) settingRead(call int32, parts []string) func(*schema.Function) bool {
	args := a.list(a.kid(call, "func_arg_list"), "func_arg_expr")
	if parts[len(parts)-1] != "current_setting" || len(args) == 0 {
		return nil
	}
	name, ok := a.constant(args[0])
	if !ok || name.Null {
		return nil
	}
	a.other(abi.Operation{Verb: "show", Kind: abi.KindSetting, Object: []string{strings.ToLower(string(name.Value))}, Effect: abi.EffectRead, Attrs: abi.Floor, Via: a.via})
	return func(f *schema.Function) bool { return f.System && f.Name.Name == "current_setting" }
}
