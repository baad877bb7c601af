package sql_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// lineage writes the outputs of an analysis: name=copies|computed.
func lineage(a *sql.Analysis) string {
	var b strings.Builder
	for _, o := range a.Statement.Outputs {
		b.WriteString(o.Name + "=")
		for i, s := range o.Copies {
			b.WriteString(map[bool]string{true: ","}[i > 0] + s.Relation[1] + "." + s.Column)
		}
		b.WriteString("|")
		for i, s := range o.Computed {
			b.WriteString(map[bool]string{true: ","}[i > 0] + s.Relation[1] + "." + s.Column)
		}
		b.WriteString(" ")
	}
	return strings.TrimSpace(b.String())
}

// newer is a context with the newest grammar, whatever the server.
func newer(t testing.TB, c *sql.Context) *sql.Context {
	t.Helper()
	g, err := parse.ForServer(18)
	if err != nil {
		t.Fatal(err)
	}
	later := *c
	later.Grammar = g
	return &later
}

// feature is a text, the server that knows it, and what it reads and gives, or
// why not.
type feature struct {
	min   int
	text  string
	want  string // the columns of its outputs, as lineage writes them
	error string // what stands in the refusal
}

// hold checks features, and runs what is forwarded where the server knows it.
func hold(t *testing.T, c *sql.Context, database string, list []feature) {
	t.Helper()
	later := newer(t, c)
	conn, err := pgx.Connect(context.Background(), server.URL("app", database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, f := range list {
		a, err := sql.Analyze(later, f.text)
		if f.error != "" {
			if got := render(a, err); !strings.Contains(got, f.error) || err == nil && a.Statement.Incomplete == "" && !a.Statement.Writes() {
				t.Errorf("%s\n%s wants %s", f.text, got, f.error)
			}
			continue
		}
		if err != nil || a.Statement.Incomplete != "" || a.Statement.Writes() {
			t.Errorf("%s\n%s", f.text, render(a, err))
			continue
		}
		if got := lineage(a); got != f.want {
			t.Errorf("%s\n got %s\nwant %s", f.text, got, f.want)
		}
		if f.min > pgtest.Major() {
			continue
		}
		results, err := conn.PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll()
		if err == nil {
			var names []string
			for _, d := range results[0].FieldDescriptions {
				names = append(names, d.Name)
			}
			var outputs []string
			for _, o := range a.Statement.Outputs {
				outputs = append(outputs, o.Name)
			}
			if len(names) > 0 && !slices.Equal(names, outputs) { // they come with rows
				t.Errorf("%s\ngives %q, not %q", f.text, names, outputs)
			}
		}
		if err != nil && !strings.Contains(err.Error(), "unsupported XML feature") {
			t.Errorf("%s\n%s\n%v", f.text, a.Statement.Canonical, err)
		}
	}
}

// TestComposite: a field of a row is that column; of a value whose type is not
// known there is none, and a name that is no field would be a call.
func TestComposite(t *testing.T) {
	c := database(t, "composite", `CREATE TABLE users (id int, ssn text); CREATE TYPE pair AS (a int, b text); CREATE TYPE odd AS (p pair, s text);
		CREATE FUNCTION label(users) RETURNS text LANGUAGE sql AS 'SELECT $1.ssn';
		CREATE TABLE holder (k int, u users, o odd, many pair[], nums int[]); CREATE TABLE second (o odd); CREATE FUNCTION outs(OUT a int, OUT p odd) LANGUAGE sql AS 'SELECT 1, NULL::odd'; CREATE FUNCTION bernoulli(internal) RETURNS tsm_handler LANGUAGE internal AS 'tsm_bernoulli_handler'; INSERT INTO holder VALUES (1, (1, 'x'), ((1, 'y'), 'z'), '{}');
		CREATE FUNCTION all_users() RETURNS SETOF users LANGUAGE sql AS 'SELECT * FROM users'; GRANT SELECT ON users, holder TO app`)
	hold(t, c, "composite", []feature{
		{0, "select (u).ssn from users u", "ssn=users.ssn|", ""},
		{0, "select (u).* from users u", "id=users.id| ssn=users.ssn|", ""},
		{0, "select (x.w).ssn, (w).id + 1 from (select u as w from users u) x", "ssn=users.ssn| ?column?=|users.id", ""},
		{0, "select ((select u from users u limit 1)).ssn, (select u from users u limit 1).id", "ssn=users.ssn| id=users.id|", ""},
		{0, "select upper((h.u).ssn), (u).ssn from holder h", "upper=|holder.u ssn=|holder.u", ""},
		{0, "select (o).s || 'x' from holder", "?column?=|holder.o", ""},
		{0, "select k from holder tablesample bernoulli (10)", "", "TABLESAMPLE by a method that is not the server's own"},
		{0, "select nums[(select 1 from all_users())] from holder", "", "call public.all_users"},
		{0, "select (o).s from (select o from holder union all select o from second) x", "", "not known"},
		{0, "select composite.public.users.ssn from users", "", "a column name of more than three parts"},
		{0, "select (outs()).p from holder", "", "call public.outs"},
		{0, "select (h).nums[1] from holder h", "nums=|holder.nums", ""},
		{0, "select nums[k], nums[1:(select ssn::int from users)] from holder", "nums=|holder.nums,holder.k nums=|holder.nums,users.ssn", ""},
		{0, "select (h).nums[(h).k], (h).nums[(select ssn::int from users)] from holder h", "nums=|holder.nums,holder.k nums=|holder.nums,users.ssn", ""},
		{0, "select k from holder tablesample system (10) repeatable ((select 1 from all_users()))", "", "call public.all_users"},
		{0, "select (h).nums[(select 1 from all_users())] from holder h", "", "call public.all_users"},
		{0, "select pair '(1,x)', row(1, 'x')::pair, '{}'::pair[], null::_odd", "pair=| row=| pair=| _odd=|", ""},
		{0, "select users '(1,x)'", "", "the type users is made by users"},
		{0, "select null::users[]", "", "the type users is made by users"},
		{0, "select x.b from unnest('{}'::pair[]) x (a, b)", "b=|", ""},
		{0, "select * from unnest('{}'::pair[])", "", "the server's choice"},
		{0, "select * from unnest(array[pair '(1,x)'])", "", "the server's choice"},
		{0, "select * from unnest('{}'::pg_class[])", "", "the server's choice"},
		{0, "select unnest(many) is null from holder", "?column?=|holder.many", ""},
		{0, "select treat(k as int8) from holder", "", "TREAT"},
		{0, "select row((u).*) from users u", "", "all fields of a value, anywhere but in a list of results"},
		{0, "select (pg_get_keywords()).word", "word=|", ""},
		{0, "select (x).key, (x).value from (select json_each_text('{}') as x) y", "key=| value=|", ""},
		{0, "select (x).* from (select json_each_text(ssn::json) as x from users) y", "key=|users.ssn value=|users.ssn", ""},
		{0, "select y from (select id, upper(ssn) as s from users) y", "y=|users.id,users.ssn", ""},
		{0, "select k from holder where (u).id = 1 order by (u).ssn", "k=holder.k|", ""},
		{0, "select (u).label from users u", "", `42703 column "label" not found`},
		{0, "select (h.u).label from holder h", "", `42703 column "label" not found`},
		{0, "select (o).p from holder", "p=|holder.o", ""},
		{0, "select ((o).p).a from holder", "", "not known"},
		{0, "select (many[1]).a from holder", "", "not known"},
		{0, "select k from holder where u is null or o = row(row(1, 'a'), 'b')::odd or many[1] is distinct from (o).p order by u", "k=holder.k|", ""},
		{0, "select ($1).ssn", "", "not known"},
		{0, "select (row(1, 2)).f1", "", "not known"},
		{0, "select (all_users()).ssn", "", "call public.all_users"},
		{0, "select (p).proname from pg_proc p", "proname=pg_proc.proname|", ""},
		{0, "select (p).prosrc from pg_proc p", "", "may hold data"},
		{0, "select (p).* from pg_proc p", "", "name them"},
		{0, "select p from pg_proc p", "", "may hold data"},
	})
}

// TestJoinAlias: behind USING an alias names what is merged, and nothing else.
func TestJoinAlias(t *testing.T) {
	hold(t, loaded(t), "shop", []feature{
		{0, "select j.id, o.total, i.sku from orders o join items i using (id) as j where j.id = 3 and o.id = i.id", "id=orders.id,items.id| total=orders.total| sku=items.sku|", ""},
		{0, "select j.* from orders o left join items i using (id) as j", "id=orders.id,items.id|", ""},
		{0, "select j from orders o full join items i using (id) as j", "j=|orders.id,items.id", ""},
		{0, "select j.id from (orders o join items i using (id) as j) cross join customers", "id=orders.id,items.id|", ""},
		{0, "select id, status, j.status from orders join customers using (id, status) as j", "id=orders.id,customers.id| status=orders.status,customers.status| status=orders.status,customers.status|", ""},
		{0, "select x from orders o join items i using (id) as j, lateral (select j.id as x) y", "x=orders.id,items.id|", ""},
		{0, "select * from (select 1 as a) x join (select 1 as a, 2 as b) y using (a) as j", "a=| b=|", ""},
		{0, "select j.sku from orders o join items i using (id) as j", "", "42703"},
		{0, "select k.id, j.id from (orders o join items i using (id) as j) as k", "", "42P01"},
		{0, "select (j).total from orders o join items i using (id) as j", "", "42703"},
	})
}

// TestComparedAsItIs: rows are compared by a column's own type; where something else
// stands beside it, a cast that users have made may run.
func TestComparedAsItIs(t *testing.T) {
	c := database(t, "as_it_is", `CREATE TYPE told AS ENUM ('x', 'y'); CREATE TYPE deaf AS ENUM ('x'); CREATE FUNCTION tell(told) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$; CREATE CAST (told AS text) WITH FUNCTION tell AS IMPLICIT;
		CREATE TABLE t (id int, e told, f told, d deaf, n text); GRANT SELECT ON t TO app; INSERT INTO t VALUES (1, 'x', 'y', 'x', 'z')`)
	hold(t, c, "as_it_is", []feature{
		{0, "select distinct e, id from t", "e=t.e| id=t.id|", ""},
		{0, "select e from t union select f from t", "e=t.e,t.f|", ""},
		{0, "select e from t union all select f from t except select e from t", "e=t.e,t.f|", ""},
		{0, "select d from t intersect select d from t", "d=t.d|", ""},
		{0, "select e from t union select n from t", "", "call public.tell"},
		{0, "select e from t union all select 'x'", "", "call public.tell"},
		{0, "select e from t union select coalesce(f, e) from t", "", "call public.tell"},
		{0, "select distinct coalesce(e, f) from t", "", "call public.tell"},
		{0, "select 1 from t group by e || 'x'", "", "call public.tell"},
		{0, "select distinct on (e) id from t", "", "call public.tell"},
	})
}

// TestCopyWhere: the condition of a COPY FROM sees what the client gives; what it
// asks of anything else is read.
func TestCopyWhere(t *testing.T) {
	c := database(t, "copy_where", `CREATE TYPE turns AS RANGE (SUBTYPE = int); CREATE TABLE t (id int, a text, secret text DEFAULT 'x', r turns); GRANT INSERT, SELECT ON t TO app; CREATE FUNCTION asks(int) RETURNS bool LANGUAGE sql AS 'SELECT true'`)
	conn, err := pgx.Connect(context.Background(), server.URL("app", "copy_where"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for text, want := range map[string]string{
		"copy t (id, a) from stdin where id > 1":                                "insert public.t(id, a) copy-in !\n",
		"copy t (id, a) from stdin where t.id > 1 and a like 'b%'":              "insert public.t(id, a) copy-in !\n",
		"copy t (id, a) from stdin where id > 1 and secret = 'x'":               "insert public.t(id, a) copy-in !\nselect public.t(secret)\n",
		"copy t (id, secret) from stdin where id > 1 and secret like 'b%'":      "insert public.t(id, secret) copy-in !\n",
		"copy t (id, secret) from stdin with (default 'd') where secret = 'x'":  "insert public.t(id, secret) copy-in !\nselect public.t(secret)\n",
		"copy t (id, a) from stdin where id > 1 and t is not null":              "incomplete: computing with r",
		"copy t (id, a) from stdin where asks(id)":                              "insert public.t(id, a) copy-in !\ncall public.asks",
		"copy t (id, a) from stdin where id in (select id from t)":              "error 0A000",
		"copy t (id, a) from stdin where nothing = 1":                           "error 42703",
		"copy t (id, a, r) from stdin with (null 'n') where r = '[1,2)'":        "incomplete: computing with r",
		"copy t (id, a) from stdin (format csv, delimiter E'\\t') where id > 1": "insert public.t(id, a) copy-in !\n",
	} {
		a, err := sql.Analyze(c, text)
		if got := render(a, err); !strings.Contains(got, want) || strings.HasSuffix(want, "copy-in !\n") && got != want {
			t.Errorf("%s\n%s", text, got)
		}
		if err != nil || a.Statement.Incomplete != "" || strings.Contains(text, "default") { // an option of 16
			continue
		}
		tag, err := conn.PgConn().CopyFrom(context.Background(), strings.NewReader("1\tbee\n2\tbe\n3\tbo\n"), a.Statement.Canonical)
		if rows := tag.RowsAffected(); err != nil || rows != 2 && !strings.Contains(text, "asks") {
			t.Errorf("%s: %d %v", text, rows, err)
		}
	}
}

// TestSearchAndCycle: what SEARCH and CYCLE add is made of the columns that they
// name, and is in a star of the query whose WITH it is alone.
func TestSearchAndCycle(t *testing.T) {
	search := "with recursive t(id, up, note) as (select id, customer_id, note from orders where id = 1 union all select o.id, o.customer_id, o.note from orders o join t on o.customer_id = t.id + 100000) search depth first by id, note set ord "
	cycle := "with recursive t(id, up, note) as (select id, customer_id, note from orders where id = 1 union all select o.id, o.customer_id, o.note from orders o join t on o.customer_id = t.id + 100000) cycle id set seen using way "
	marked := strings.Replace(cycle, "set seen using", "set seen to 'Y' default 'N' using", 1)
	hold(t, loaded(t), "shop", []feature{
		{14, search + "select ord, up from t order by ord", "ord=|orders.id,orders.note up=orders.customer_id|", ""},
		{14, search + "select * from t", "id=orders.id| up=orders.customer_id| note=orders.note| ord=|orders.id,orders.note", ""},
		{14, search + "(select t.*, 1 as one from t) limit 1", "id=orders.id| up=orders.customer_id| note=orders.note| ord=|orders.id,orders.note one=|", ""},
		{14, search + "table t", "id=orders.id| up=orders.customer_id| note=orders.note| ord=|orders.id,orders.note", ""},
		{14, search + "select * from t x (a, b, c)", "a=orders.id| b=orders.customer_id| c=orders.note| ord=|orders.id,orders.note", ""},
		{14, search + "select * from t join customers k on k.id = t.up where false", "id=orders.id| up=orders.customer_id| note=orders.note| ord=|orders.id,orders.note id=customers.id| name=customers.name| email=customers.email| card=customers.card| national_id=customers.national_id| status=customers.status| created=customers.created|", ""},
		{14, search + "select * from (select * from t) x", "id=orders.id| up=orders.customer_id| note=orders.note|", ""},
		{14, search + "select * from (select ord, t.* from t) x", "ord=|orders.id,orders.note id=orders.id| up=orders.customer_id| note=orders.note|", ""},
		{14, search + "select * from t union all select * from t", "id=orders.id| up=orders.customer_id| note=orders.note|", ""},
		{14, search + ", u as (select * from t) select * from u", "id=orders.id| up=orders.customer_id| note=orders.note|", ""},
		{14, search + "insert into orders (id, customer_id, note) select * from t where false", "", "insert public.orders(id, customer_id, note)"},
		{14, "insert into orders (id, customer_id, note) " + search + "select * from t", "", "more expressions than target columns"},
		{14, "insert into orders (id, customer_id, note) " + search + "table t", "", "more expressions than target columns"},
		{14, search + "select (select t from t limit 1) is null", "?column?=|orders.customer_id,orders.id,orders.note", ""},
		{14, search + "select x.ord from (t join customers using (id)) x", "ord=|orders.id,orders.note", ""},
		{14, search + "select 1 from (select x.id from (t join customers using (id)) x) y", "", "an alias over what SEARCH or CYCLE adds"},
		{14, search + "select (select 1 from t join t u using (ord) limit 1)", "", "USING of what SEARCH or CYCLE adds"},
		{14, strings.Replace(search, "depth", "breadth", 1) + "select id from t order by ord", "id=orders.id|", ""},
		{14, cycle + "select * from t", "id=orders.id| up=orders.customer_id| note=orders.note| seen=|orders.id way=|orders.id", ""},
		{14, marked + "select seen, note from t where seen = 'N'", "seen=|orders.id note=orders.note|", ""},
		{14, strings.Replace(cycle, "join t on", "join t on not t.seen and", 1) + "select way from t", "way=|orders.id", ""},
		{14, strings.Replace(search, "by id, note", "by id, nothing", 1) + "select 1 from t", "", "42601"},
		{14, strings.Replace(cycle, "recursive", "", 1) + "select 1 from t", "", "42601"},
		{14, "with t as (select 1 as a) search depth first by a set o select 1 from t", "", "42601"},
		{14, strings.Replace(marked, "'Y'", "purge('x') '1'", 1) + "select 1 from t", "", "42704"},
	})
}

// TestGivenType: a client says no type of a parameter whose functions could run
// anything, by whatever cast.
func TestGivenType(t *testing.T) {
	c := database(t, "given", `CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE pair AS (a int, b text); CREATE TYPE told AS ENUM ('x'); CREATE TYPE made AS ENUM ('x');
		CREATE DOMAIN few AS int CHECK (VALUE < 10); CREATE FUNCTION asks(int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE DOMAIN asked AS few CHECK (asks(VALUE)); CREATE TYPE holds AS (a int, b asked); CREATE TYPE spans AS RANGE (SUBTYPE = int); CREATE TYPE span AS (s spans);
		CREATE FUNCTION tell(told) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$; CREATE CAST (told AS text) WITH FUNCTION tell AS IMPLICIT;
		CREATE FUNCTION make(text) RETURNS made LANGUAGE sql AS $$SELECT 'x'::made$$; CREATE CAST (text AS made) WITH FUNCTION make AS IMPLICIT;`)
	for name, want := range map[string]bool{"mood": true, "_mood": true, "pair": true, "_pair": true, "few": true, "asked": false, "holds": false, "_holds": false, "spans": false, "span": false, "told": false, "_told": false, "made": false} {
		if got := sql.GivenType(c, c.Schema.TypeByName[schema.Name{Namespace: "public", Name: name}].OID); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestFromFunctions: ROWS FROM, several arguments of unnest and lists of
// columns are what goes into them.
func TestFromFunctions(t *testing.T) {
	hold(t, loaded(t), "shop", []feature{
		{0, "select * from rows from (generate_series(1, 2), unnest(array['a', 'b'])) with ordinality", "generate_series=| unnest=| ordinality=|", ""},
		{0, "select x.b from orders o, lateral rows from (string_to_table(o.note, ','), generate_series(1, o.id)) as x(a, b)", "b=|orders.id", ""},
		{0, "select * from unnest(array[1], array['x']) as u(a, b)", "a=| b=|", ""},
		{0, "select k, v from customers c, unnest(array[c.card], array[c.name]) u(k, v)", "k=|customers.card,customers.name v=|customers.card,customers.name", ""},
		{0, "select a, b from customers, json_to_record(card::json) as x(a int, b text) limit 0", "a=|customers.card b=|customers.card", ""},
		{0, "select * from rows from (json_to_recordset('[]') as (a int), generate_series(1, 1))", "a=| generate_series=|", ""},
		{0, "select x.* from json_each_text('{}') x", "key=| value=|", ""},
		{0, "select concat(variadic array[name, card]), format('%s', variadic array[id]) from customers", "concat=|customers.card,customers.name format=|customers.id", ""},
		{0, "select unnest, x from unnest(array[1]) join unnest(array['y']) as x on true", "unnest=| x=|", ""},
		{0, "select lexeme, positions from unnest(to_tsvector('english', 'a cat'))", "lexeme=| positions=|", ""},
		{0, "select * from rows from (purge())", "", "call public.purge"},
		{0, "select * from rows from (generate_series(1, 2), pg_ls_dir('.'))", "", "call pg_catalog.pg_ls_dir"},
		{0, "select * from json_to_record('{}') as x(a nosuch)", "", "42704"},
		{0, "select * from current_date", "", "a function of that form"},
	})
}

// TestXMLAndJSON: what they read is in the lineage, and what runs SQL stays a
// call.
func TestXMLAndJSON(t *testing.T) {
	hold(t, loaded(t), "shop", []feature{
		{0, "select xmlelement(name x, xmlattributes(card as c, name), email, 'z'), xmlforest(id, status as n), xmlconcat('<a/>', null), xmlpi(name php), xmlroot('<a/>', version '1.0', standalone yes) from customers", "xmlelement=|customers.card,customers.email,customers.name xmlforest=|customers.id,customers.status xmlconcat=| xmlpi=| xmlroot=|", ""},
		{0, "select xmlserialize(content xmlparse(content note) as text), xmlparse(document '<a/>') is document, xmlexists('//a' passing by value xmlparse(content note)) from orders", "xmlserialize=|orders.note ?column?=| xmlexists=|orders.note", ""},
		{0, "select x.a, n from orders, xmltable(xmlnamespaces('urn:a' as p), '/p:r' passing xmlparse(content note) columns n for ordinality, a text path '@a' default status not null) x", "a=|orders.note,orders.status n=|orders.note,orders.status", ""},
		{0, "select xpath('//a', '<a/>'), xmlagg(xmlparse(content note)) from orders", "xpath=| xmlagg=|orders.note", ""},
		{0, "select query_to_xml('select 1', true, true, '')", "", "call pg_catalog.query_to_xml"},
		{0, "select xmlelement(name x, table_to_xml('customers', true, true, ''))", "", "call pg_catalog.table_to_xml"},
		{0, "select a from xmltable('/r' passing query_to_xml('select 1', true, true, '') columns a text)", "", "call pg_catalog.query_to_xml"},
		{0, "select xmlelement(name x, xmlattributes(purge() as p))", "", "call public.purge"},
		{16, "select json_object('k': card, 'n': name null on null with unique keys returning jsonb), json_array(id, note absent on null) from customers join orders using (id)", "json_object=|customers.card,customers.name json_array=|customers.id,orders.id,orders.note", ""},
		{16, "select json_array(select card from customers limit 1), json_objectagg(name: card), json_arrayagg(email order by card), json_object() from customers", "json_array=|customers.card json_objectagg=|customers.card,customers.name json_arrayagg=|customers.card,customers.email json_object=|", ""},
		{16, "select note is json object with unique keys, note is not json from orders", "?column?=|orders.note ?column?=|orders.note", ""},
		{17, "select json_value(note::jsonb, '$.a' passing card as c returning int default 1 on empty null on error), json_query(note::jsonb, '$' with wrapper), json_exists(note::jsonb, '$.x' false on error) from orders join customers using (id) limit 0", "json_value=|customers.card,orders.note json_query=|orders.note json_exists=|orders.note", ""},
		{17, "select json_scalar(card), json(note), json_serialize(note returning text) from orders join customers using (id) limit 0", "json_scalar=|customers.card json=|orders.note json_serialize=|orders.note", ""},
		{17, "select t.* from orders, json_table(note::jsonb, '$[*]' as p passing status as s columns (i for ordinality, a int path '$.a' default 0 on empty, b text exists path '$.b', nested path '$.c[*]' as q columns (c text))) t limit 0", "i=|orders.note,orders.status a=|orders.note,orders.status b=|orders.note,orders.status c=|orders.note,orders.status", ""},
		{17, "select x from json_table('[]', '$' columns (x public.order_state path '$.x')) j", "x=|", ""},
		{17, "select * from json_table(purge()::text::jsonb, '$' columns (x int))", "", "call public.purge"},
		{17, "select json_value('{}', '$' default purge() on empty)", "", "call public.purge"},
		{17, "select * from json_table('[]', '$' columns (x nosuch))", "", "42704"},
		{17, "select json_scalar(o) from orders o", "json_scalar=|orders.created,orders.customer_id,orders.id,orders.note,orders.status,orders.total", ""},
	})
}
