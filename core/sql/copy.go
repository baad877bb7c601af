package sql

import (
	"slices"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// CopyFormat is how the rows of a COPY are written, as the server reads its
// options. The zero value is no COPY.
type CopyFormat struct {
	Columns    int    // of a row
	Format     string // text, csv or binary
	Delimiter  byte
	Null       string // what stands for NULL
	Header     bool   // the first row are names, or is not looked at
	Quote      byte   // csv alone, as the rest
	Escape     byte
	ForceQuote []bool // by column, what is quoted even where it need not be; nil is none
	Encoding   string // empty is the session's
}

func (a *analyzer) copy(n int32) Part {
	if a.kid(n, "opt_program") != 0 && !a.empty(a.kid(n, "opt_program")) {
		a.other(abi.Operation{Verb: "copy program", Kind: abi.KindStatement, Effect: abi.EffectWrite})
		return Part{Kind: Utility}
	}
	file := a.kid(n, "copy_file_name")
	if a.find(file, "STDIN") == 0 && a.find(file, "STDOUT") == 0 {
		a.other(abi.Operation{Verb: "copy file", Kind: abi.KindStatement, Effect: abi.EffectWrite})
		return Part{Kind: Utility}
	}
	if q := a.kid(n, "PreparableStmt"); q != 0 {
		cols := a.query(nil, q)
		a.output(cols)
		a.inside = q
		return Part{Kind: CopyOut, Copy: a.copyFormat(n, cols)}
	}
	q := a.kid(n, "qualified_name")
	var listed []string
	if l := a.kid(n, "opt_column_list"); !a.empty(l) {
		for _, c := range a.list(a.find(l, "columnList"), "columnElem") {
			listed = append(listed, a.ident(c))
		}
	}
	if a.find(a.kid(n, "copy_from"), "FROM") != 0 {
		return a.copyIn(n, q, listed)
	}
	r := a.relation(q)
	if r.Kind == 'v' || r.System {
		a.refuse("COPY of %s", r.Name.Name)
	}
	all := a.columns(r)
	a.touch("select", r, "", abi.EffectRead).Attrs |= abi.CopyOut
	var cols []column
	for _, name := range a.copied(r, listed) {
		cols = append(cols, all[slices.IndexFunc(all, func(c column) bool { return c.name == name })])
	}
	a.output(cols)
	return Part{Kind: CopyOut, Copy: a.copyFormat(n, cols)}
}

// copied gives the columns of a COPY in its order. Generated ones are copied
// only where they are listed, if the server lets them.
func (a *analyzer) copied(r *schema.Relation, listed []string) []string {
	if listed == nil {
		for _, c := range r.Columns {
			if c.Generated == 0 {
				listed = append(listed, c.Name)
			}
		}
		return listed
	}
	for i, name := range listed {
		switch {
		case r.Column(name) == nil:
			a.failAnywhere("42703", "column %q of relation %q does not exist", name, r.Name.Name)
		case slices.Contains(listed[:i], name):
			a.failAnywhere("42701", "column %q specified more than once", name)
		}
	}
	return listed
}

func (a *analyzer) copyIn(n, q int32, listed []string) Part {
	r := a.table(q)
	op := a.change("insert", r, a.via)
	op.Attrs |= abi.CopyIn
	given := a.copied(r, listed)
	cols := make([]column, len(given))
	for i, name := range given {
		a.writes(op, r, name)
		cols[i].name = name
	}
	filled := a.find(n, "DEFAULT") != 0 // the option fills in defaults of columns that are given
	if w := a.kid(n, "where_clause"); !a.empty(w) {
		own := given
		if filled {
			own = nil
		}
		a.copiedWhere(r, a.kid(w, "a_expr"), own)
	}
	a.defaults(r, given, filled)
	a.follows(op, r, 'i', given, nil) // no rule rewrites it
	return Part{Kind: CopyIn, Copy: a.copyFormat(n, cols)}
}

// copiedWhere takes the condition of a COPY FROM, which sees the row that comes in:
// what is given is the client's own, and what defaults make of the rest is read.
func (a *analyzer) copiedWhere(r *schema.Relation, e int32, given []string) {
	if a.find(e, "select_with_parens") != 0 {
		a.fail("0A000", e, "cannot use subquery in COPY FROM WHERE condition")
	}
	before, quiet := a.snapshot(), a.quiet
	a.quiet = true
	a.expr(&scope{origins: []*origin{a.own(r, "", a.via)}}, e, abi.UseComputed)
	a.quiet = quiet
	for _, s := range a.since(before) {
		if s.relation != r || !slices.Contains(given, s.column) {
			a.mark(s, abi.UseCondition)
		}
	}
}

// option is one of COPY's, by its name of today.
type option struct {
	at    int32
	name  string
	value string
	none  bool     // it has no value
	all   bool     // it is *
	list  []string // it is a list of columns
}

// copyFormat reads the options of a COPY of either syntax.
func (a *analyzer) copyFormat(n int32, cols []column) CopyFormat {
	f := CopyFormat{Columns: len(cols), Format: "text"}
	given := map[string]option{}
	for _, o := range a.copyOptions(n) {
		if _, twice := given[o.name]; twice {
			a.fail("42601", o.at, "conflicting or redundant options")
		}
		given[o.name] = o
		switch o.name {
		case "format":
			if f.Format = o.value; f.Format != "text" && f.Format != "csv" && f.Format != "binary" {
				a.fail("22023", o.at, "COPY format %q not recognized", f.Format)
			}
		case "header":
			switch v := strings.ToLower(o.value); {
			case o.none, v == "true", v == "on", v == "1", v == "match":
				f.Header = true
			case v != "false" && v != "off" && v != "0":
				a.fail("42601", o.at, "header requires a Boolean value or \"match\"")
			}
		case "null":
			f.Null = o.value
		case "encoding":
			f.Encoding = o.value
		case "force_quote":
			f.ForceQuote = make([]bool, len(cols))
			for i := range cols {
				f.ForceQuote[i] = o.all
			}
			for _, name := range o.list {
				i := slices.IndexFunc(cols, func(c column) bool { return c.name == name })
				if i < 0 {
					a.fail("42703", o.at, "column %q does not exist", name)
				}
				f.ForceQuote[i] = true
			}
		case "delimiter", "quote", "escape":
			if len(o.value) != 1 {
				a.fail("0A000", o.at, "COPY %s must be a single one-byte character", o.name)
			}
		case "freeze", "default", "force_not_null", "force_null", "on_error", "log_verbosity", "reject_limit": // of what comes in
		default:
			a.fail("42601", o.at, "option %q not recognized", o.name)
		}
	}
	char := func(name string, otherwise byte) byte {
		if o, ok := given[name]; ok {
			return o.value[0]
		}
		return otherwise
	}
	switch f.Format {
	case "csv":
		f.Delimiter, f.Quote = char("delimiter", ','), char("quote", '"')
		f.Escape = char("escape", f.Quote)
	case "text":
		f.Delimiter = char("delimiter", '\t')
		if _, ok := given["null"]; !ok {
			f.Null = `\N`
		}
	}
	return f
}

func (a *analyzer) copyOptions(n int32) (list []option) {
	if b := a.kid(n, "opt_binary"); b != 0 && !a.empty(b) {
		list = append(list, option{at: b, name: "format", value: "binary"})
	}
	if d := a.kid(n, "copy_delimiter"); d != 0 && !a.empty(d) {
		list = append(list, option{at: d, name: "delimiter", value: a.token(a.kid(d, "Sconst")).Value})
	}
	options := a.kid(n, "copy_options")
	for _, e := range a.list(a.kid(options, "copy_generic_opt_list"), "copy_generic_opt_elem") {
		o := option{at: e, name: a.ident(e)}
		arg := a.kid(e, "copy_generic_opt_arg")
		switch {
		case a.empty(arg):
			o.none = true
		case a.kid(arg, "copy_generic_opt_arg_list") != 0:
			for _, item := range a.list(a.kid(arg, "copy_generic_opt_arg_list"), "copy_generic_opt_arg_list_item") {
				o.list = append(o.list, a.token(item).Value)
			}
		case a.token(arg).Value == "*" && a.kid(arg, "opt_boolean_or_string") == 0:
			o.all = true
		default:
			o.value = a.token(arg).Value
		}
		list = append(list, o)
	}
	for _, e := range a.list(a.kid(options, "copy_opt_list"), "copy_opt_item") {
		o := option{at: e, name: a.ident(e), none: true}
		switch r := a.rule(e); {
		case o.name == "binary" || o.name == "csv":
			o.name, o.value = "format", o.name
		case o.name == "force":
			o.name = "force_" + strings.ToLower(strings.Join(words(r[2:len(r)-1]), "_"))
			o.all = r[len(r)-1] == "'*'"
			for _, c := range a.list(a.kid(e, "columnList"), "columnElem") {
				o.list = append(o.list, a.ident(c))
			}
		case a.kid(e, "Sconst") != 0:
			o.none, o.value = false, a.token(a.kid(e, "Sconst")).Value
		}
		list = append(list, o)
	}
	return list
}

// words are terminals as they are written.
func words(terminals []string) (out []string) {
	for _, t := range terminals {
		out = append(out, strings.TrimSuffix(t, "_P"))
	}
	return out
}
