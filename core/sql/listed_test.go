package sql_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// listing is the database of testdata/listed.sql, seen by a task that lists all but
// what is called zz.
func listing(t *testing.T, name string) (*sql.Context, *pgx.Conn, []string) {
	t.Helper()
	loaded(t)
	raw, err := os.ReadFile("testdata/listed.sql")
	if err != nil {
		t.Fatal(err)
	}
	c := *database(t, name, pgtest.Shop+string(raw))
	c.Listed = sql.NewListing(func(kind string, object []string) bool {
		if kind == abi.KindFunction {
			return object[1] == "twice" || object[1] == "lists_rows"
		}
		return !strings.HasPrefix(object[1], "zz_")
	})
	conn, err := pgx.Connect(context.Background(), server.URL("app", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	var hidden []string
	for oid, r := range c.Schema.Relations {
		if strings.HasPrefix(r.Name.Name, "zz_") {
			hidden = append(hidden, strconv.Itoa(int(oid)))
		}
	}
	return &c, conn, hidden
}

// rows are what a text's canonical form gives at the server, or its error.
func rows(conn *pgx.Conn, text string) string {
	results, err := conn.PgConn().Exec(context.Background(), text).ReadAll()
	var b strings.Builder
	for _, r := range results {
		for _, f := range r.FieldDescriptions {
			fmt.Fprintf(&b, "%s %d|", f.Name, f.TableOID)
		}
		b.WriteByte('\n')
		for _, row := range r.Rows {
			for _, v := range row {
				b.Write(v)
				b.WriteByte('|')
			}
			b.WriteByte('\n')
		}
	}
	if err != nil {
		b.WriteString(err.Error())
	}
	return b.String()
}

// tells finds what is hidden in an answer.
func tells(answer string, hidden []string) string {
	if m := regexp.MustCompile(`(?i)\w*zz_\w*`).FindString(answer); m != "" {
		return m
	}
	answer = strings.ReplaceAll(strings.ToLower(answer), "gb18030", "") // an encoding, by which functions of the server's own are called
	for _, n := range regexp.MustCompile(`[0-9]+`).FindAllString(answer, -1) {
		if slices.Contains(hidden, n) {
			return n
		}
	}
	return ""
}

// TestListedTools: what psql and tools ask is understood under `introspect:
// listed`, runs, has its columns, and tells nothing of what is not listed.
func TestListedTools(t *testing.T) {
	c, conn, hidden := listing(t, "listedtools")
	var orders, parts string
	if err := conn.QueryRow(context.Background(), "select 'orders'::regclass::oid::text, 'parts'::regclass::oid::text").Scan(&orders, &parts); err != nil {
		t.Fatal(err)
	}
	psql, err := os.ReadFile("testdata/psql15.sql")
	if err != nil {
		t.Fatal(err)
	}
	newer, err := os.ReadFile("testdata/psql18.sql")
	if err != nil {
		t.Fatal(err)
	}
	psql = append(psql, newer...)
	tools, err := os.ReadFile("testdata/tools.sql")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	oid := regexp.MustCompile(`'[0-9]{5}'`)
	for line := range strings.Lines(string(psql)) {
		for _, of := range []string{orders, parts, hidden[len(texts)%len(hidden)]} {
			texts = append(texts, oid.ReplaceAllString(strings.TrimSpace(line), "'"+of+"'"))
			if !oid.MatchString(line) {
				break
			}
		}
	}
	for block := range strings.SplitSeq(string(tools), "\n\n") {
		text := ""
		if strings.Contains(block, "-- refused:") || strings.Contains(block, "xmin") { // no system column is told where rows are left out
			continue
		}
		for line := range strings.Lines(block) {
			if !strings.HasPrefix(line, "--") {
				text += line
			}
		}
		texts = append(texts, strings.TrimSpace(text))
	}
	understood := 0
	for _, text := range texts {
		if _, err := conn.PgConn().Prepare(context.Background(), "", text, nil); err != nil || text == "" {
			continue // another server's
		}
		a, err := sql.Analyze(c, text)
		if err == nil && a.Statement.Incomplete != "" && slices.ContainsFunc(append(withheld, "pg_partition_tree", ".tableoid"), func(what string) bool { return strings.Contains(text, what) }) {
			continue
		}
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s\n%s", text, render(a, err))
			continue
		}
		understood++
		if strings.Contains(rows(conn, text), "42501") { // the login may not read it
			continue
		}
		if got := rows(conn, a.Statement.Canonical); strings.Contains(got, "SQLSTATE") || tells(got, hidden) != "" {
			t.Errorf("%s\n%s\n%s\n%s", text, a.Statement.Canonical, tells(got, hidden), got)
		}
	}
	if understood < 100 {
		t.Errorf("only %d texts", understood)
	}
}

// TestListedHidesAll: each relation that introspection reads, read whole, tells
// nothing of what is not listed, and something of what is.
func TestListedHidesAll(t *testing.T) {
	c, conn, hidden := listing(t, "listedall")
	read := 0
	for _, r := range c.Schema.Relations {
		if !r.System {
			continue
		}
		text := "select * from " + r.Name.Namespace + "." + r.Name.Name
		a, err := sql.Analyze(c, text)
		if err != nil {
			t.Fatal(err)
		}
		if a.Statement.Incomplete != "" {
			continue
		}
		read++
		got := rows(conn, a.Statement.Canonical)
		if strings.Contains(got, "(SQLSTATE") && !strings.Contains(got, "42501") || tells(got, hidden) != "" {
			t.Errorf("%s\n%s\n%s\n%.3000s", text, a.Statement.Canonical, tells(got, hidden), got)
		}
	}
	if read < 90 {
		t.Errorf("only %d relations", read)
	}
	for text, want := range map[string]string{
		"select relname from pg_class": "orders_id_seq", "select tablename from pg_tables": "customers", "select table_name from information_schema.tables": "open_orders",
		"select indexname from pg_indexes": "customers_email_key", "select conname from pg_constraint": "orders_customer_id_fkey", "select typname from pg_type": "order_state",
		"select enumlabel from pg_enum": "shipped", "select proname from pg_proc": "twice", "select tgname from pg_trigger": "payment_logged", "select column_name from information_schema.columns": "card",
		"select constraint_name from information_schema.table_constraints": "orders_customer_id_fkey", "select nspname from pg_namespace": "public", "select routine_name from information_schema.routines": "twice",
		"select constraint_name from information_schema.referential_constraints": "orders_customer_id_fkey", "select sequence_name from information_schema.sequences": "orders_id_seq",
		"select count(*) from pg_depend where refobjid = 'orders'::regclass and objid = 'orders_id_seq'::regclass": "1|", "select sequencename, data_type from pg_sequences": "orders_id_seq||",
		"select conrelid::regclass, confrelid::regclass from pg_constraint where conname = 'orders_customer_id_fkey'": "orders|customers|", "select pg_get_constraintdef(oid) from pg_constraint": "REFERENCES customers(id)",
	} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", text, render(a, err))
		} else if got := rows(conn, a.Statement.Canonical); !strings.Contains(got, want) || strings.Contains(got, "SQLSTATE") {
			t.Errorf("%s\n%s\n%s", text, a.Statement.Canonical, got)
		}
	}
}

// TestListedNamed: no column of what is listed names what is not, neither by the
// table that a row lies in nor as a value.
func TestListedNamed(t *testing.T) {
	c, conn, hidden := listing(t, "listednamed")
	for text, want := range map[string]string{
		"select tableoid from parts": sql.Unseen, "select p.tableoid::text from public.parts p": sql.Unseen, "select id from parts order by tableoid": sql.Unseen, "select count(*) from base group by tableoid": sql.Unseen,
		"select id from base where tableoid = 5": sql.Unseen, "select regnamespace('zz_schema')": "a call of regnamespace, which is a cast", "select at from points": "the column at of points", "select many from points": "the column many of points", "select object from points": "the column object of points",
		"select * from points": "of points", "select p from points p": "of points", "select id from points where at = object": "of points", "select many[1] from points": "the column many of points", "select at::text from points": "the column at of points",
	} {
		a, err := sql.Analyze(c, text)
		if got := render(a, err); !strings.Contains(got, "incomplete: ") || !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
	hiding := 0
	for _, typ := range c.Schema.Types { // as that of a parameter
		if strings.HasPrefix(typ.Name.Name, "zz_") {
			if hiding++; sql.GivenType(c, typ.OID) {
				t.Errorf("a parameter can be of type %s", typ.Name.Name)
			}
		}
	}
	if hiding < 3 {
		t.Errorf("only %d types to hide", hiding)
	}
	a, err := sql.Analyze(c, "prepare p as select id from parts; explain execute p") // the plan shows what is beneath
	if err == nil {
		a, err = a.Resolve(sql.NoNames{})
	}
	if got := render(a, err); !strings.Contains(got, sql.Unseen) {
		t.Errorf("explain execute: %s", got)
	}
	for _, text := range []string{"select tableoid from orders", "select id from points", "select id from parts"} {
		a, err := sql.Analyze(c, text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Errorf("%s: %s", text, render(a, err))
		} else if got := rows(conn, a.Statement.Canonical); strings.Contains(got, "SQLSTATE") || tells(got, hidden) != "" {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// TestListedIsMissing: of each text in which a relation that is not listed stands,
// the answer is what it is with one that is not there. $ is its name, # its OID, and
// what is said is held against what is said of a name and an OID of nothing.
func TestListedIsMissing(t *testing.T) {
	c, conn, _ := listing(t, "listedmissing")
	answer := func(text string) string {
		a, err := sql.Analyze(c, text)
		if err == nil {
			a, err = a.Resolve(sql.NoNames{})
		}
		if err != nil || a.Statement.Incomplete != "" || slices.ContainsFunc(a.Statement.Operations, func(o abi.Operation) bool { return o.Kind == abi.KindFunction }) {
			return render(a, err) // what no rule lists does not run
		}
		return rows(conn, a.Statement.Canonical)
	}
	allowed := 0
	for _, text := range ofNothing {
		for _, hides := range []string{"zz_vault", "zz_view", "zz_copy", "zz_numbers", "zz_parts_2026", "zz_schema.zz_inner"} {
			name := hides[strings.LastIndexByte(hides, '.')+1:]
			for _, r := range c.Schema.Relations {
				if r.Name.Name != name {
					continue
				}
				there := answer(strings.NewReplacer("$", hides, "#", strconv.Itoa(int(r.OID))).Replace(text))
				none := answer(strings.NewReplacer("$", strings.Replace(hides, "zz_", "qq_", 1), "#", "99999").Replace(text))
				clean := strings.NewReplacer(hides, strings.Replace(hides, "zz_", "qq_", 1), strconv.Itoa(int(r.OID)), "99999").Replace(there)
				if clean != none {
					t.Errorf("%s of %s says\n%s\nand of nothing\n%s", text, hides, there, none)
				}
				if !strings.HasPrefix(there, "error") && !strings.HasPrefix(there, "incomplete") {
					allowed++
				}
			}
		}
	}
	if allowed < 100 {
		t.Errorf("only %d answers were the server's", allowed)
	}
	for _, hides := range []string{"zz_grade", "zz_domain", "zz_pair"} { // types
		none := strings.Replace(hides, "zz_", "qq_", 1)
		for _, text := range []string{"select $('x')", "select public.$('x')", "select 'x'::$", "select public.$ 'x'", "select $(1, 2)", "select '$'::regtype", "select to_regtype('$')"} {
			if there := strings.ReplaceAll(answer(strings.ReplaceAll(text, "$", hides)), hides, none); there != answer(strings.ReplaceAll(text, "$", none)) {
				t.Errorf("%s of %s says %s", text, hides, there)
			}
		}
	}
}

var ofNothing = []string{
	"select * from $", "select 1 from only $", "insert into $ default values", "update $ set id = 1", "delete from $", "truncate $", "lock table $", "copy $ to stdout", "copy $ from stdin", "table $",
	"select to_regclass('$')", "select to_regclass('$')::oid", "select '$'::regclass", "select '$'::regclass::oid", "select cast('$' as regclass)", "select regclass '$'", "select cast('$' as pg_catalog.regclass)::text",
	"select regclass('$')", "select regclass(#)", "select #::regclass", "select (#)::oid::regclass::text", "select cast(cast(# as oid) as regclass)", "select '#'::regclass", "select # :: int8 :: regclass",
	"select coalesce(to_regclass('orders'), '$')", "select coalesce(to_regclass('nope'), '$')", "select to_regclass('orders') in ('$')", "select case when false then 'orders'::regclass else '$' end",
	"select to_regclass('orders') union all select '$'", "values ('orders'::regclass), ('$')", "select array['orders'::regclass, '$']", "select '{$}'::regclass[]", "select '{#}'::_regclass",
	"select greatest('orders'::regclass, '$')", "select * from json_to_record('{\"a\":\"$\"}') as x(a regclass)", "select * from jsonb_to_recordset('[{\"a\":\"$\"}]') as x(a regtype)",
	"select jsonb_populate_record(null::pg_sequences, '{\"data_type\":\"$\"}')", "select jsonb_populate_record(s, '{\"data_type\":\"$\"}') from pg_sequences s", "select data_type from pg_sequences union all select '$'",
	"select null::$", "select null::$[]", "select '(1)'::$", "select cast(null as $)", "select '$'::regtype", "select '$'::regtype::oid", "select to_regtype('$')", "select to_regtype('$[]')", "select to_regtype('$(1)')", "select '$(1)'::regtype",
	"select coalesce(pg_typeof(1), '$')", "select pg_typeof(null::$)", "select format_type((select oid from pg_type where typname = '$'), null)", "select oidvectortypes('#')", "select regclassout(#)", "select regclassout('$')", "select regtypeout(#)",
	"select pg_table_is_visible(#)", "select pg_type_is_visible(#)", "select has_table_privilege('$', 'select')", "select has_table_privilege(#, 'select')", "select has_table_privilege('app', '$', 'select')", "select has_table_privilege('app', #, 'select')",
	"select has_column_privilege('$', 'id', 'select')", "select has_column_privilege(#, 'id', 'select')", "select has_column_privilege('app', #, 1::int2, 'select')", "select has_any_column_privilege('$', 'select')", "select has_sequence_privilege('$', 'usage')",
	"select has_type_privilege('$', 'usage')", "select has_function_privilege('zz_function($)', 'execute')", "select row_security_active('$')", "select row_security_active(#)", "select pg_relation_is_updatable('$', true)", "select pg_relation_is_updatable(#, true)",
	"select pg_column_is_updatable('$', 1::int2, true)", "select pg_relation_is_publishable('$')", "select pg_get_partkeydef(#)", "select pg_get_serial_sequence('$', 'id')", "select pg_get_indexdef(#)", "select pg_get_viewdef('$')", "select pg_get_viewdef(#)",
	"select pg_partition_ancestors('$')", "select pg_partition_ancestors(#)", "select pg_partition_root('$')", "select pg_partition_tree('$')", "select relid from pg_partition_tree(#)", "select pg_relation_size('$')", "select pg_total_relation_size(#)", "select obj_description(#)", "select obj_description('$'::regclass, 'pg_class')", "select col_description(#, 1)",
	"select pg_get_constraintdef(oid) from pg_constraint where confrelid = #", "select count(*) from pg_class where oid = #", "select count(*) from pg_class where relname = '$'", "select count(*) from pg_attribute where attrelid = #",
	"select count(*) from pg_depend where objid = # or refobjid = #", "select count(*) from pg_type where typrelid = #", "select count(*) from pg_inherits where inhrelid = #", "select count(*) from information_schema.columns where table_name = '$'",
	"select satisfies_hash_partition(#, 2, 0, 1)", "select information_schema._pg_index_position(#, 1::int2)", "select nextval('$')", "select currval('$')", "select pg_stat_get_numscans(#)", "select * from pg_stat_user_tables where relname = '$'",
	"select n_live_tup from pg_stat_all_tables where relid = #", "select attname from pg_stats where tablename = '$'", "select '$'::regproc", "select '$'::regprocedure", "select to_regprocedure('zz_function($)')", "select 'zz_function($)'::regprocedure",
	"prepare p(regclass) as select $1", "prepare p as select '$'::regclass; deallocate p", "select c.oid::regclass from pg_class c where c.oid = # group by c.oid::regclass order by c.oid::regclass", "explain select * from $",
	"select query_to_xml('select 1 from $', true, true, '')", "select table_to_xml('$', true, true, '')", "select pg_input_is_valid('$', 'regclass')", "select * from pg_input_error_info('$', 'regclass')", "comment on table $ is 'x'",
	"select pg_describe_object(1259, #, 0)", "select * from pg_identify_object(1259, #, 0)", "select pg_filenode_relation(0, #)", "select pg_relation_filenode('$')", "select pg_relation_filepath('$')",
}
