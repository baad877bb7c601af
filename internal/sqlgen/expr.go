package sqlgen

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
)

// Generator makes statements over the schema, most of which a server takes.
type Generator struct {
	*rand.Rand
	major   int
	blind   bool // the task is: what is masked can be read as anything else
	wild    bool // reads what is protected or not listed as it reads anything else
	slips   int  // how often a statement may do with what is protected what it must not
	touched bool // a table with protected columns is in the statement
	names   int
	next    int // of the probes
	ctes    []source
	params  []param // of the statement, where it may have some
	bound   bool
	single  bool // what is made stands for one row: no window, no set

	cursors, prepared []string // that the session may have by now
	wires             []wired
	temps             []source // tables of its own that it may have
	todo              []due    // what is left of a script
	own               int      // how often it has been asked to make a table of its own
}

// New gives a generator for a server of that major and a task that is blind, or
// is not. first is the number of the probe that it begins with: whoever counts on
// has them all.
func New(r *rand.Rand, major int, blind bool, first int) *Generator {
	return &Generator{Rand: r, major: major, blind: blind, next: first}
}

// Next gives the number of the probe that comes next.
func (g *Generator) Next() int { return g.next }

// source is what a FROM has brought into reach.
type source struct {
	alias   string
	columns []column
	table   bool // a row of it is a table's
}

type param struct{ kind, text string }

func (g *Generator) odds(n int) bool { return g.IntN(n) == 0 }

func (g *Generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g *Generator) name() string {
	g.names++
	return fmt.Sprintf("%c%d", 'a'+g.IntN(26), g.names)
}

// slip says whether a statement does here what it must not: one that does it once
// shows a hole that one which does it everywhere is kept from.
func (g *Generator) slip() bool {
	if g.slips > 0 && g.odds(3) {
		g.slips--
		return true
	}
	return g.wild && g.odds(3)
}

// column gives a column in reach of that kind, "" where there is none.
func (g *Generator) column(kind string, scope []source) string {
	type at struct {
		s source
		c column
	}
	var found, kept []at
	for _, s := range scope {
		for _, c := range s.columns {
			switch {
			case c.kind != kind:
			case c.protected():
				kept = append(kept, at{s, c})
			default:
				found = append(found, at{s, c})
			}
		}
	}
	if len(kept) > 0 && g.slip() {
		found = kept
	}
	if len(found) == 0 {
		return ""
	}
	f := found[g.IntN(len(found))]
	if g.odds(25) || f.s.alias == "" {
		return f.c.name
	}
	return f.s.alias + "." + f.c.name
}

// constants of each kind: some lie among the values of the tables, some are at
// the ends of their type.
var constants = map[string][]string{
	"int": {"0", "1", "2", "3", "7", "18", "100", "-1", "NULL::int", "2147483647"}, "bigint": {"0", "3", "9223372036854775807", "NULL::bigint"},
	"text": {"'x'", "''", "'nick'", "'eu'", "'ann1'", "'12'", "NULL::text", "'it''s'", "U&'\\00e9'", "$$two$$"}, "bool": {"true", "false", "NULL::bool"},
	"date": {"date '2021-03-04'", "'1970-01-01'::date", "NULL::date", "date 'infinity'"}, "numeric": {"1.5", "0.0", "'NaN'::numeric", "NULL::numeric", "1e10"},
	"timestamptz": {"timestamptz '2024-01-11 10:00+00'", "NULL::timestamptz"}, "mood": {"'low'::mood", "'high'::mood", "NULL::mood"}, "text[]": {"'{a,b}'::text[]", "ARRAY['x', NULL]", "NULL::text[]"},
	"bytea": {`'\x00ff'::bytea`, "NULL::bytea"}, "uuid": {"'00000000-0000-0000-0000-000000000000'::uuid"}, "jsonb": {`'{"a": [1, 2]}'::jsonb`, "NULL::jsonb"}, "int4range": {"int4range(1, 5)", "'empty'::int4range", "'[2,2]'::int4range"},
	"daterange": {"daterange('2024-01-05', '2024-02-01')", "'empty'::daterange", "'[2024-06-01,)'::daterange"},
}

var kinds = []string{"int", "int", "int", "text", "text", "text", "bool", "date", "numeric", "mood", "text[]", "jsonb", "bigint", "timestamptz", "bytea"}

func (g *Generator) constant(kind string) string {
	if g.bound && g.odds(3) && len(g.params) < 6 {
		if v, ok := values[kind]; ok {
			g.params = append(g.params, param{kind, g.pick(v...)})
			return fmt.Sprintf("$%d", len(g.params))
		}
	}
	return g.pick(constants[kind]...)
}

// values are those that a parameter of a kind may have; "-" is NULL.
var values = map[string][]string{
	"int": {"1", "2", "3", "18", "0", "-", "x"}, "text": {"x", "", "eu", "ann1", "-", "\xff"}, "bool": {"t", "f", "-"}, "numeric": {"1.5", "NaN", "-"}, "date": {"2021-03-04", "-", "soon"},
}

// expr gives an expression of a kind. What is protected is in it only where the
// generator is wild.
func (g *Generator) expr(kind string, depth int, scope []source) string {
	if g.odds(40) { // one that does not fit
		kind = kinds[g.IntN(len(kinds))]
	}
	if depth <= 0 || g.odds(4) {
		if c := g.column(kind, scope); c != "" && !g.odds(4) {
			return c
		}
		return g.constant(kind)
	}
	e := func(kind string) string { return g.expr(kind, depth-1, scope) }
	switch g.IntN(12) {
	case 0:
		return fmt.Sprintf("coalesce(%s, %s)", e(kind), e(kind))
	case 1:
		return fmt.Sprintf("CASE WHEN %s THEN %s ELSE %s END", g.condition(depth-1, scope), e(kind), e(kind))
	case 2:
		return "(" + g.scalar(kind, depth-1, scope) + ")"
	case 3:
		return fmt.Sprintf("nullif(%s, %s)", e(kind), e(kind))
	case 4:
		return fmt.Sprintf("(ARRAY[%s, %s])[%s]", e(kind), e(kind), g.pick("1", "2", e("int")))
	case 5:
		return fmt.Sprintf("%s(%s, %s)", g.pick("greatest", "least"), e(kind), e(kind))
	}
	forms := forms[kind]
	if len(forms) == 0 || g.odds(9) {
		if c := g.column(kind, scope); c != "" {
			return c
		}
		return g.constant(kind)
	}
	return g.fill(g.known(forms), depth-1, scope)
}

// forms are expressions by their kind, for fill. A number before one is the first
// server that has it.
var forms = map[string][]string{
	"int": {"(# + #)", "(# - #)", "(# * #)", "(# / #)", "(# \\% 7)", "abs(#)", "-#", "length(@)", "ascii(@)", "position('a' in @)", "extract(year from ^)::int", "cardinality(~)", "(@)::int", "CAST(% AS int)", "strpos(@, @)",
		"array_length(~, 1)", "width_bucket(#, 0, 100, 5)", "sign(#)::int", "(# & 3)", "(# << 1)", "octet_length(@)", "jsonb_array_length(!)", "(!)['a'][0]::int", "(! \\#>> '{a,0}')::int", "regexp_count(@, 'a')", "date_part('dow', ^)::int", "num_nonnulls(VARIADIC ~)", "(ARRAY[#, #, 3])[2]", "OPERATOR(pg_catalog.-) #", "(# OPERATOR(pg_catalog.+) #)", "array_position(~, @)", "jsonb_path_query_first(!, '$.a[0]')::int", "17 JSON_VALUE(!, '$.a[0]' RETURNING int)", "CASE # WHEN # THEN 1 WHEN 2 THEN # END", "(SELECT # WHERE # > 1)", "(^ - date '2020-01-01')", "lower(int4range(1, 5)) + #", "(! ->> 'a')::int", "bit_length(@)", "hashtext(@)", "div(%, 2)::int", "num_nulls(#, @)", "char_length(@)"},
	"bigint": {"(#)::bigint", "factorial(3)::bigint", "(# + 1::bigint)"},
	"text": {"upper(@)", "lower(@)", "(@ || @)", "substr(@, #, 2)", "left(@, 3)", "repeat(@, 2)", "replace(@, 'a', @)", "(#)::text", "md5(@)", "concat(@, #, ^)", "concat_ws('-', @, #)", "format('%s:%L', @, #)", "to_char(#, '999')",
		"array_to_string(~, ',')", "translate(@, 'ab', 'xy')", "quote_literal(@)", "(?)::text", "trim(both 'a' from @)", "overlay(@ placing 'zz' from 1 for 2)", "(! ->> 'a')", "split_part(@, 'a', 1)", "reverse(@)", "initcap(@)", "lpad(@, 5)", "to_json(@)::text",
		"(~)[1]", "pg_typeof(#)::text", "regexp_replace(@, '[a-c]', 'x', 'g')", "@ COLLATE \"C\"", "row(#, @)::text", "json_build_object('k', @)::text", "xmlelement(name n, @)::text", "encode(convert_to(@, 'UTF8'), 'hex')", "substring(@ from '[a-z]+')", "substring(@ similar '#\"%#\"' escape '#')", "normalize(@)", "(@ COLLATE \"POSIX\")", "(^ AT TIME ZONE 'UTC')::text", "(! \\#>> '{a}')", "(!)['a']::text", "(~)[1:2]::text", "xmlserialize(CONTENT xmlforest(@ AS x, # AS y) AS text)", "(xpath('/a/text()', xmlelement(name a, @)))[1]::text", "(ROW(#, @)).f2::text", "16 JSON_OBJECT('k': @ ABSENT ON NULL)::text", "16 JSON_ARRAY(@, #)::text", "17 JSON_VALUE(!, '$.a')", "17 JSON_QUERY(!, '$.a' WITH WRAPPER)::text", "(SELECT @)", "string_to_array(@, 'n')::text", "(@ || NULL)", "rpad(@, 3, @)", "quote_nullable(@)", "U&'\\0061' || @", "regexp_substr(@, 'n+')", "bit_count(@::bytea)::text", "chr(65 + abs(# \\% 20))", "to_hex(#)"},
	"bool": {"(# = #)", "(@ LIKE 'a%')", "(# < #)", "(@ \\~ '^[a-m]')", "(# IS NULL)", "(@ IS DISTINCT FROM @)", "(NOT (# > 1))", "(# BETWEEN # AND #)", "((#, @) = (#, @))", "(# = ANY (ARRAY[#, 2]))", "(@ IN (@, 'x'))", "(~ && ~)", "(! \\@> '{}')", "('a' = ANY (~))", "starts_with(@, 'a')", "(? > 'low')", "(date '2020-01-01', ^) OVERLAPS (^, ^)", "(# BETWEEN SYMMETRIC # AND #)", "(# NOT BETWEEN # AND #)", "(@ ILIKE '%N')", "(@ SIMILAR TO '(a|b)%')", "(@ LIKE @ ESCAPE '!')", "(@ NOT LIKE ALL (ARRAY['a%', @]))", "(# < ALL (ARRAY[#, #]))", "((#, #) < (#, #))", "(ROW(#, @) IS NOT DISTINCT FROM ROW(#, @))",
		"((#, @) IN ((1, 'x'), (#, @)))", "(! \\? 'a')", "(! \\?| ARRAY['a', @])", "(! \\@\\? '$.a[*]')", "(! \\@\\@ '$.a[0] > 0')", "(~ \\@> ARRAY[@])", "(~ <\\@ ~)", "(@ IS NFC NORMALIZED)", "16 (@ IS JSON OBJECT)", "17 JSON_EXISTS(!, '$.a')", "(@ \\^\\@ 'a')", "(#) IN (VALUES (1), (#))", "(int4range(1, 5) \\@> #)", "((#, #) OPERATOR(pg_catalog.=) (#, #))", "(@ < @ COLLATE \"C\")", "(# = ANY ('{1,2}'::int[]))", "(@ = SOME (~))", "# ISNULL", "NOT #::bool"},
	"date":        {"(^ + #)", "make_date(2020, 1, #)", "least(^, ^)", "(@)::date", "(^ + interval '1 day')::date", "date_trunc('month', ^)::date", "(^ - #)", "(timestamptz '2024-01-11 10:00+00' AT TIME ZONE 'Asia/Tokyo')::date", "to_date(@, 'YYYY')", "greatest(^, NULL)"},
	"numeric":     {"(% + %)", "(% / %)", "round(%, 1)", "(#)::numeric", "trunc(%)", "sqrt(abs(%))::numeric", "(% \\^ 2)", "ln(%)", "scale(%)::numeric", "mod(%, 3)", "extract(epoch from ^)", "(#)::numeric(6,2)", "(! ->> 'a')::numeric", "to_number(@, '999')", "width_bucket(%, 0, 9, 3)::numeric", "ceil(%)"},
	"mood":        {"(@)::mood", "enum_first(?)"},
	"text[]":      {"(~ || @)", "array_append(~, @)", "string_to_array(@, 'a')", "ARRAY[@, @]", "array_remove(~, @)", "(~)[1:1]", "(~)[:#]", "array_cat(~, ~)", "ARRAY(SELECT @)", "regexp_split_to_array(@, 'n')", "array_replace(~, @, 'z')", "(ARRAY[~, ~])[1:1][1]::text[]", "string_to_array(@, NULL)", "array_fill(@, ARRAY[2])"},
	"jsonb":       {"jsonb_build_object('a', #, 'b', @)", "to_jsonb(@)", "(! -> 'a')", "(! || '{\"z\": 1}')", "jsonb_build_array(#, @, ^)", "(@)::jsonb", "(! \\#> '{a}')", "(! - 'a')", "(! \\#- '{a,0}')", "(!)['a']", "jsonb_strip_nulls(!)", "jsonb_path_query_array(!, '$.*')", "16 JSON_OBJECT('a': #, 'b': @ RETURNING jsonb)", "17 JSON_QUERY(!, '$.a')", "jsonb_object(~, ~)", "jsonb_insert(!, '{z}', '2')", "jsonb_set(!, '{a}', '1')", "to_jsonb(~)"},
	"timestamptz": {"date_trunc('day', timestamptz '2024-01-11 10:00+00')", "(^)::timestamptz", "(^ AT TIME ZONE 'UTC')::timestamptz", "make_timestamptz(2024, 1, #, 1, 1, 0)", "to_timestamp(#)", "(^ + time '10:00')::timestamptz"},
	"bytea":       {"convert_to(@, 'UTF8')", "decode(md5(@), 'hex')", "(@)::bytea", "sha256(@::bytea)", "substring('\\x00ff'::bytea from #)"},
}

var since = regexp.MustCompile(`^\d+ `)

// known picks a form that the server has: a number before one is the first that
// has it.
func (g *Generator) known(forms []string) string {
	for {
		f := forms[g.IntN(len(forms))]
		n := since.FindString(f)
		if n == "" {
			return f
		}
		if major, err := strconv.Atoi(strings.TrimSpace(n)); err == nil && major <= g.major {
			return f[len(n):]
		}
	}
}

// fill puts expressions into a form: # int, @ text, ^ date, % numeric, ~ text[],
// ? mood, ! jsonb. A sign within quotes or behind a backslash is itself.
func (g *Generator) fill(form string, depth int, scope []source) string {
	var b strings.Builder
	quoted, itself := false, false
	for _, c := range form {
		switch kind := signs[c]; {
		case c == '\\' && !quoted:
			itself = true
			continue
		case kind == "" || quoted || itself:
			b.WriteRune(c)
		default:
			b.WriteString(g.expr(kind, depth, scope))
		}
		quoted, itself = quoted != (c == '\''), false
	}
	return b.String()
}

var signs = map[rune]string{'#': "int", '@': "text", '^': "date", '%': "numeric", '~': "text[]", '?': "mood", '!': "jsonb"}

func (g *Generator) condition(depth int, scope []source) string {
	if depth <= 0 {
		return g.fill(g.pick("(# = #)", "(# < #)", "(@ = @)", "(# IS NOT NULL)", "(@ < @)"), 0, scope)
	}
	switch g.IntN(12) {
	case 0:
		return fmt.Sprintf("EXISTS (%s)", g.some(depth-1, scope))
	case 1:
		return fmt.Sprintf("%s %s (%s)", g.expr("int", depth-1, scope), g.pick("IN", "NOT IN", "= ANY", ">= ALL", "<> SOME"), g.scalar("int", depth-1, scope))
	case 2:
		return "(" + g.condition(depth-1, scope) + g.pick(" AND ", " OR ") + g.condition(depth-1, scope) + ")"
	case 3:
		return "true"
	case 4:
		return "(" + g.expr("bool", depth, scope) + ") IS " + g.pick("NOT TRUE", "UNKNOWN", "NOT FALSE")
	}
	return g.expr("bool", depth, scope)
}
