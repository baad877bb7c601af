package sql_test

import (
	"context"
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
		if _, err := conn.PgConn().Exec(context.Background(), a.Statement.Canonical).ReadAll(); err != nil && !strings.Contains(err.Error(), "unsupported XML feature") {
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
		{0, "select 1 from users a join users b using (id) as j", "", "an alias behind USING"},
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
