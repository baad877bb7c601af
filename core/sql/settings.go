package sql

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// settings are those that every task may set, with the values that are
// allowed; none listed is any. What is not here is refused: role and many
// others change what a text means or may do.
var settings = map[string][]string{
	"application_name": nil, "datestyle": nil, "intervalstyle": nil, "timezone": nil, "extra_float_digits": {"0", "1", "2", "3"}, "bytea_output": nil, "xmlbinary": nil,
	"xmloption": {"content", "document"}, "client_encoding": {"utf8", "utf-8", "unicode", "'utf8'", "'utf-8'"}, "standard_conforming_strings": {"on", "true", "yes", "1"}, "escape_string_warning": nil,
	"client_min_messages": {"notice", "warning", "error"}, "default_transaction_isolation": nil, "default_transaction_read_only": nil,
	"default_transaction_deferrable": nil, "transaction_isolation": nil, "transaction_read_only": nil, "transaction_deferrable": nil, "synchronize_seqscans": nil,
	"statement_timeout": nil, "lock_timeout": nil, "idle_in_transaction_session_timeout": nil, "idle_session_timeout": nil, "transaction_timeout": nil,
	"row_security":          nil, // off is an error where a policy would leave rows out
	"quote_all_identifiers": nil, "check_function_bodies": nil,
	"default_tablespace": {""}, "default_table_access_method": {"heap"}, // as a dump begins
	// What drivers and tools set. Which scans and joins a plan is made of (enable_seqscan and its like) is not for a text to choose: rows that
	// nothing sorts come in the order of the index that is read, and its key may hold what is protected.
	"geqo": nil, "jit": nil, "plan_cache_mode": nil,
}

// narrowing may only be given the value that takes away most: no other, nor what
// the session began with.
var narrowing = map[string]string{"restrict_nonsystem_relation_kind": "view, foreign-table"}

// Setting says whether every task may give a setting a value.
func Setting(name, value string) bool {
	allowed, ok := settings[strings.ToLower(name)]
	if n := narrowing[strings.ToLower(name)]; n != "" {
		return strings.Trim(value, "'") == n
	}
	return ok && (len(allowed) == 0 || slices.ContainsFunc(allowed, func(v string) bool { return strings.EqualFold(v, value) }))
}

// timeouts are numbers with an optional unit. Fractions and other bases are
// left out: the server rounds 0.0001h to no limit at all.
var timeouts = regexp.MustCompile(`^\s*(0|[1-9][0-9]{0,14})\s*(us|ms|s|min|h|d)?\s*$`)

var units = map[string]float64{"us": 0.001, "": 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}

// Timeout gives what statement_timeout may be set to where a task has a limit,
// and says so where that is less than was asked for. ok is false for a value
// that is not understood.
func Timeout(value string, limit time.Duration) (set, notice string, ok bool) {
	if limit <= 0 || value == "default" {
		return value, "", true
	}
	m := timeouts.FindStringSubmatch(value)
	if m == nil {
		return "", "", false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return "", "", false
	}
	if ms := math.RoundToEven(n * units[m[2]]); ms > 0 && ms <= float64(limit.Milliseconds()) {
		return value, "", true
	}
	set = strconv.FormatInt(limit.Milliseconds(), 10) + "ms"
	return set, fmt.Sprintf("statement_timeout stays at %s, the limit of this task", limit), true
}

// set takes a setting that is given a value, which stands at a node.
func (a *analyzer) set(name, value string, at int32, local bool) Part {
	name = strings.ToLower(name)
	_, known := settings[name]
	ok := Setting(name, value) || known && value == "default" || a.c.Settings != nil && a.c.Settings(name)
	if !ok && (name == "client_encoding" || name == "standard_conforming_strings") {
		a.refuse("%s set to %s, under which the server would read other texts than the gateway", name, strings.Trim(value, "'"))
	}
	if name == "statement_timeout" && ok {
		var set, notice string
		if set, notice, ok = Timeout(value, a.c.StatementTimeout); notice != "" {
			a.edits = append(a.edits, edit{a.t.Nodes[at].From, a.t.Nodes[at].To, quoteLiteral(set)})
			value, a.notice = set, notice
		}
	}
	op := abi.Operation{Verb: "set", Kind: abi.KindSetting, Object: []string{name}, Value: value, Effect: abi.EffectWrite, Via: a.via}
	if ok {
		op.Effect, op.Attrs = abi.EffectRead, abi.Floor
	}
	a.other(op)
	return Part{Kind: Set, Name: name, Value: value, Local: local}
}

func (a *analyzer) setting(n int32) Part {
	local := a.kid(n, "LOCAL") != 0
	rest := a.kid(n, "set_rest")
	if a.kid(rest, "transaction_mode_list") != 0 {
		a.other(abi.Operation{Verb: "set", Kind: abi.KindSetting, Object: []string{"transaction"}, Effect: abi.EffectRead, Attrs: abi.Floor})
		return Part{Kind: Set, Name: "transaction", Local: a.kid(rest, "SESSION") == 0}
	}
	more := a.kid(rest, "set_rest_more")
	if g := a.kid(more, "generic_set"); g != 0 {
		name := a.varName(a.kid(g, "var_name"))
		list := a.kid(g, "var_list")
		if name == "search_path" {
			return a.setPath(list, local)
		}
		value := "default"
		if list != 0 {
			value = ""
			for i := a.t.Nodes[list].From; i < a.t.Nodes[list].To; i++ {
				value += a.t.Tokens[i].Value
			}
		}
		return a.set(name, value, list, local)
	}
	switch r := a.rule(more); r[1] {
	case "SCHEMA":
		return a.searchPath([]string{a.token(a.kid(more, "Sconst")).Value}, local)
	case "TIME":
		return a.set("timezone", a.text(a.kid(more, "zone_value")), more, local)
	case "NAMES":
		value := "default"
		if e := a.kid(more, "opt_encoding"); !a.empty(e) {
			value = a.token(e).Value
		}
		return a.set("client_encoding", value, more, local)
	case "XML_P":
		return a.set("xmloption", a.text(a.kid(more, "document_or_content")), more, local)
	case "SESSION":
		if a.kid(more, "DEFAULT") != 0 && a.c.Schema.Role.Itself {
			a.floor("set session authorization default") // nothing can have changed it
			return Part{Kind: Utility}
		}
		return a.set("session_authorization", "", more, local)
	default:
		return a.set(strings.TrimSuffix(r[1], "_P"), "", more, local)
	}
}

// varName gives a setting's name, in small letters.
func (a *analyzer) varName(n int32) string {
	return strings.ToLower(strings.NewReplacer(`"`, "", " ", "").Replace(a.text(n)))
}

func (a *analyzer) show(n int32) Part {
	name := ""
	switch v := a.kid(n, "var_name"); {
	case a.kid(n, "ALL") != 0: // each of which can be asked for by its name; the server leaves out what the login may not see
		if name = "all"; a.c.Schema.Role.Superuser {
			a.refuse("SHOW ALL by a superuser, who sees the server's passwords: name the setting")
		}
	case v != 0:
		name = a.varName(v)
	case a.kid(n, "TIME") != 0:
		name = "timezone"
	case a.kid(n, "TRANSACTION") != 0:
		name = "transaction_isolation"
	default:
		name = "session_authorization"
	}
	a.other(abi.Operation{Verb: "show", Kind: abi.KindSetting, Object: []string{name}, Effect: abi.EffectRead, Attrs: abi.Floor})
	return Part{Kind: Show, Rows: true}
}

// settingCall takes current_setting and set_config over constants as SHOW and
// SET. It gives which function is then accepted, nil where the call is no such.
func (a *analyzer) settingCall(s *scope, call int32, parts []string) func(*schema.Function) bool {
	called := parts[len(parts)-1]
	if a.via != "" || called != "current_setting" && called != "set_config" {
		return nil
	}
	args := a.list(a.kid(call, "func_arg_list"), "func_arg_expr")
	if len(args) == 0 {
		return nil
	}
	name, ok := a.written(args[0])
	if !ok && called == "set_config" {
		name, ok = a.picksSetting(s, args[0])
	}
	lower := strings.ToLower(string(name.Value))
	if !ok || name.Null {
		return nil
	}
	accept := func(f *schema.Function) bool { return f.System && f.Name.Name == called }
	switch called {
	case "current_setting":
		a.other(abi.Operation{Verb: "show", Kind: abi.KindSetting, Object: []string{lower}, Effect: abi.EffectRead, Attrs: abi.Floor})
		return accept
	case "set_config":
		if value, local, ok := a.configured(args); ok && lower != "search_path" {
			a.set(lower, value, args[1], local)
			return accept
		}
	}
	return nil
}

// selects notes which setting alone a query over pg_settings is about: along the
// ANDs of its condition, that whose name equals a constant.
func (a *analyzer) selects(s *scope, n int32) {
	leaf := a.through(n)
	r, first := a.rule(leaf), a.t.Nodes[leaf].First
	switch {
	case !slices.ContainsFunc(s.origins, (*origin).isSettings):
	case a.name(leaf) == "a_expr" && len(r) == 4 && r[2] == "AND":
		a.selects(s, first)
		a.selects(s, a.t.Nodes[a.t.Nodes[first].Next].Next)
	case a.name(leaf) == "a_expr" && len(r) == 4 && r[2] == "'='":
		value, ok := a.written(a.t.Nodes[a.t.Nodes[first].Next].Next)
		if o := a.settingOf(s, first); o != nil && ok && !value.Null {
			o.setting = string(value.Value)
		}
	}
}

// settingOf gives the reference to pg_settings whose column name an expression is.
func (a *analyzer) settingOf(s *scope, n int32) *origin {
	ref := a.bare(n)
	if a.name(ref) != "columnref" || s == nil {
		return nil
	}
	names, star, plain := a.parts(ref)
	if star || !plain || len(names) > 2 || names[len(names)-1] != "name" {
		return nil
	}
	var mine *origin
	for _, o := range s.origins {
		if len(names) == 2 && o.alias != names[0] {
			continue
		}
		if i, n := o.find("name"); n > 0 {
			if mine != nil || n > 1 || i < 0 || !o.isSettings() || len(o.columns[i].copies) != 1 || o.columns[i].copies[0].column != "name" {
				return nil
			}
			mine = o
		}
	}
	return mine
}

// picksSetting gives the name of the setting that an argument is, where the query
// is about one alone. It is forwarded as that constant: what was judged is what is
// set, whatever the condition comes to.
func (a *analyzer) picksSetting(s *scope, arg int32) (p abi.Param, ok bool) {
	o := a.settingOf(s, arg)
	if o == nil || o.setting == "" {
		return p, false
	}
	a.edits = append(a.edits, edit{a.t.Nodes[arg].From, a.t.Nodes[arg].To, quoteLiteral(o.setting)})
	return abi.Param{Value: []byte(o.setting)}, true
}

// same are the types that a cast to which leaves a text or a truth as it is.
var same = set("text varchar charactervarying bool boolean pg_catalog.text pg_catalog.varchar pg_catalog.bool")

// written gives the value of a constant that no cast makes another: '29999us'
// as varchar(5) has lost its unit.
func (a *analyzer) written(n int32) (abi.Param, bool) {
	for at := n; ; at = a.kid(at, "a_expr") {
		at = a.bare(at)
		r := a.rule(at)
		switch name := a.name(at); {
		case name == "a_expr" && len(r) == 3 && (r[1] == "'-'" || r[1] == "'+'"):
		case name == "a_expr" && a.kid(at, "TYPECAST") != 0, name == "func_expr_common_subexpr" && r[1] == "CAST":
			if !same[strings.NewReplacer(`"`, "", " ", "").Replace(strings.ToLower(a.text(a.kid(at, "Typename"))))] {
				return abi.Param{}, false
			}
		case a.t.Nodes[at].To != a.t.Nodes[at].From+1:
			return abi.Param{}, false
		default:
			return a.constant(n)
		}
	}
}

// configured gives the constants of set_config: the value, and whether it is
// for the transaction alone.
func (a *analyzer) configured(args []int32) (value string, local, ok bool) {
	if len(args) != 3 {
		return "", false, false
	}
	v, ok1 := a.written(args[1])
	l, ok2 := a.written(args[2])
	if !ok1 || !ok2 || v.Null || l.Null {
		return "", false, false
	}
	switch strings.ToLower(string(l.Value)) {
	case "true", "t", "on":
		return string(v.Value), true, true
	case "false", "f", "off":
		return string(v.Value), false, true
	}
	return "", false, false
}

// movesPath takes SELECT set_config('search_path', …) as the SET that it is:
// alone, since whether it ran decides what later names are.
func (a *analyzer) movesPath(n int32) (Part, bool) {
	for {
		first := a.t.Nodes[n].First
		if k := a.name(n); k == "simple_select" || first == 0 || a.t.Nodes[first].Next != 0 {
			break
		}
		n = first
	}
	list := a.kid(n, "opt_target_list")
	if a.name(n) != "simple_select" || list == 0 || a.t.Nodes[list].To != a.t.Nodes[n].To {
		return Part{}, false
	}
	els := a.list(a.kid(list, "target_list"), "target_el")
	if len(els) != 1 || a.kid(els[0], "a_expr") == 0 {
		return Part{}, false
	}
	call := a.find(els[0], "func_application")
	if e := a.kid(els[0], "a_expr"); call == 0 || a.t.Nodes[call].From != a.t.Nodes[e].From || a.t.Nodes[call].To != a.t.Nodes[e].To {
		return Part{}, false
	}
	parts, _, plain := a.parts(a.kid(call, "func_name"))
	args := a.list(a.kid(call, "func_arg_list"), "func_arg_expr")
	if !plain || parts[len(parts)-1] != "set_config" || len(args) != 3 ||
		slices.ContainsFunc(a.reached(parts), func(f *schema.Function) bool { return !f.System }) || len(a.reached(parts)) == 0 {
		return Part{}, false
	}
	name, ok := a.written(args[0])
	value, local, ok2 := a.configured(args)
	if !ok || !ok2 || !strings.EqualFold(string(name.Value), "search_path") {
		return Part{}, false
	}
	names, ok := parse.Path(value)
	if !ok {
		a.fail("22023", args[1], "invalid value for parameter \"search_path\"")
	}
	p := a.searchPath(names, local)
	p.Rows = true
	label := a.label(els[0])
	if label == "" {
		label = "set_config"
	}
	a.output([]column{{name: label, other: true}})
	return p, true
}
