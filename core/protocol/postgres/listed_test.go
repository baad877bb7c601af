package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// heard stands between clients and a gateway, and keeps every byte that they get.
type heard struct {
	addr string
	mu   sync.Mutex
	got  bytes.Buffer
}

func (w *heard) Write(b []byte) (int, error) { w.mu.Lock(); defer w.mu.Unlock(); return w.got.Write(b) }

func (w *heard) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := bytes.Clone(w.got.Bytes())
	w.got.Reset()
	return b
}

func relayed(t *testing.T, to string) *heard {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &heard{addr: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				return
			}
			all.Go(func() { _, _ = io.Copy(server, client); server.Close() })
			all.Go(func() { _, _ = io.Copy(io.MultiWriter(w, client), server); client.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return w
}

// listed gives a gateway for a task that is told of what it lists, in front of the
// database of core/sql/testdata/listed.sql, with all that its clients get; and what
// they must not: the names that begin with zz_, and their OIDs, as text and in bytes.
func listed(t *testing.T) (g *gateway, w *heard, tells func([]byte) string) {
	t.Helper()
	var tables []string
	for _, name := range strings.Fields("customers orders items payments open_orders events shown parts base child cascaded") {
		tables = append(tables, "public."+name)
	}
	var own []policy.Rule
	for _, verb := range []string{"select", "insert", "update", "delete", "truncate", "lock"} {
		own = append(own, all(verb, tables...))
	}
	guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": {Rules: own}}}}
	g = serve(t, guard)
	raw, err := os.ReadFile("../../sql/testdata/listed.sql")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := server.Psql(g.db, string(raw)); err != nil {
		t.Fatal(out, err)
	}
	g.options(guard, TaskOptions{Introspect: true, Listed: Listing(func(kind string, object []string) bool {
		return kind == abi.KindRelation && slices.Contains(tables, strings.Join(object, "."))
	})}, ResourceOptions{}, "listed")
	conn, err := pgx.Connect(context.Background(), server.URL("postgres", g.db))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), "select oid from pg_class where relname like 'zz\\_%'")
	if err != nil {
		t.Fatal(err)
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil || len(oids) < 15 {
		t.Fatal(oids, err)
	}
	name := regexp.MustCompile(`zz_\w+`)
	number := regexp.MustCompile(`[0-9]+`)
	w = relayed(t, g.addr)
	return g, w, func(b []byte) string {
		if found := name.Find(b); found != nil {
			return string(found)
		}
		for _, n := range number.FindAll(b, -1) {
			if slices.ContainsFunc(oids, func(oid uint32) bool { return string(n) == fmt.Sprint(oid) }) {
				return string(n)
			}
		}
		for _, oid := range oids {
			if as := binary.BigEndian.AppendUint32(nil, oid); bytes.Contains(b, append(append([]byte{0}, as...), 0)) || bytes.Contains(b, append([]byte{0, 0, 0, 4}, as...)) { // of a RowDescription, and a cell
				return fmt.Sprintf("%d in bytes", oid)
			}
		}
		return ""
	}
}

// TestListedPsql: psql's commands work for a task that is told of what it lists,
// and nothing else is in any byte that it gets.
func TestListedPsql(t *testing.T) {
	_, w, tells := listed(t)
	var commands strings.Builder
	for _, c := range strings.Fields(`d dS d+ da dA dA+ dAc dAf dAo dAp db dc dC dd ddp dD des det deu dew df df+ dFa dF dFd dFp dFt dg di di+ dL dm dn dn+ do dO dp dP dP+ drds dRp dRp+ dRs ds ds+ dt dt+ dT dT+ dTS
		du dv dv+ dx dX dy l z`) {
		for _, of := range []string{"", "zz_*"} {
			commands.WriteString(`\` + c + " " + of + "\n")
		}
	}
	for _, of := range strings.Fields("orders items payments parts shown base child zz_vault zz_view zz_parts_2026 zz_schema.zz_inner zz_numbers") {
		commands.WriteString(`\d ` + of + "\n\\d+ " + of + "\n")
	}
	commands.WriteString("\\sf twice\n\\sv shown\n\\sf zz_function\n\\sv zz_view\n\\dconfig work_mem\n")
	out := psqlAt(t, w.addr, commands.String())
	for _, want := range []string{"orders_pkey", `FOREIGN KEY (customer_id) REFERENCES customers(id)`, "Partitioned table", "customers_email_key", "order_state", "open_orders", "Number of partitions: 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%.6000s", want, out)
		}
	}
	asked := regexp.MustCompile(`named? "[^"]*"|"zz_\w+" does not exist`).ReplaceAllString(out, "")
	if found := tells([]byte(asked)); found != "" { // psql itself says what it was asked for
		t.Errorf("psql prints %s:\n%s", found, around(asked, found))
	}
	if got := string(w.take()); tells([]byte(got)) != "" {
		t.Errorf("psql gets %s:\n%s", tells([]byte(got)), around(got, tells([]byte(got))))
	}
	for text, want := range map[string]string{`\d`: "orders", `\dt`: "payments", `\d orders`: "customer_id", `\d open_orders`: "email", `\di`: "orders_pkey", `\dT`: "order_state", `\d parts`: "Partition key", `\ds`: "orders_id_seq",
		`\d+ base`: "Column", `\dp orders`: "orders", `\dn`: "public"} {
		if out := psqlAt(t, w.addr, text+"\n"); !strings.Contains(out, want) || strings.Contains(out, "ERROR") {
			t.Errorf("%s\n%s", text, out)
		}
	}
}

func around(text, found string) string {
	i := strings.Index(text, strings.TrimSuffix(found, " in bytes"))
	return text[max(0, i-400):min(len(text), max(0, i)+200)]
}

func psqlAt(t *testing.T, addr, text string) string {
	t.Helper()
	g := &gateway{addr: addr}
	out, _ := g.output(t, text, "psql", "-X", g.url())
	return out
}

// TestListedRefusals: what reaches an unlisted relation is refused without its name,
// and what the server says of one is not told.
func TestListedRefusals(t *testing.T) {
	g, w, tells := listed(t)
	c := (&gateway{addr: w.addr}).connect(t)
	ctx := context.Background()
	for _, text := range []string{
		"delete from cascaded where id = 1", "truncate cascaded cascade", "truncate cascaded", "update cascaded set id = 2", "explain select * from shown", "explain analyze select * from shown", "select tableoid from parts",
		"select tableoid::regclass from parts", "explain select * from parts", "insert into parts values (1, null)", "insert into orders (customer_id, total, vault_id) values (1, 1, 999)", "select p::text from parts p", "select tableoid from base",
		"prepare q as select * from shown", "explain execute q", "update parts set at = '2030-01-01'", "insert into parts values (1, '2031-01-01') returning tableoid", "merge into parts p using (select 1 as id) s on p.id = s.id when matched then delete",
		"select * from zz_vault", "select * from pg_stat_user_tables", "lock table parts", "select * from shown for update", "copy shown to stdout", "copy parts to stdout", "comment on table orders is 'x'", "create table zz_vault (id int)", "drop table zz_vault",
		"insert into zz_vault default values", "select * from nothing_there", "select 1 from shown where code = 1", "select zz_function(null)", "select lists_rows(null)", "do $$ begin raise 'x'; end $$",
	} {
		_, err := c.Exec(ctx, text)
		if got := string(w.take()); tells([]byte(strings.NewReplacer(`"zz_vault"`, "", "function zz_function does not exist", "").Replace(got))) != "" {
			t.Errorf("%s (%v) tells %s:\n%q", text, err, tells([]byte(got)), got)
		}
	}
	for _, text := range []string{"select * from parts", "select * from shown", "select p from parts p", "insert into parts values (3, '2026-06-06') returning *", "select to_regclass('orders')::text", "select 'orders'::regclass"} {
		if _, err := c.Exec(ctx, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := w.take(); tells(got) != "" {
			t.Errorf("%s tells %s:\n%q", text, tells(got), got)
		}
	}
	if pgtest.Major() >= 15 { // a view that reads as who asks says whom it may not read
		g.ask(t, "alter view shown set (security_invoker = true); revoke all on zz_vault from app")
		if err := serverSees(g); err != nil {
			t.Fatal(err)
		}
		_, err := c.Exec(ctx, "select id from shown")
		if got := w.take(); code(err) != "42501" || tells(got) != "" {
			t.Errorf("%v tells %s:\n%q", err, tells(got), got)
		}
	}
	for _, typ := range []uint32{2205, 2210, 2206, 2211, 2202, 24} { // regclass and its like, as the type of a parameter
		if _, err := c.PgConn().Prepare(ctx, "", "select $1", []uint32{typ}); code(err) != "42501" {
			t.Errorf("a parameter of type %d: %v", typ, err)
		}
	}
	var name string
	if err := c.QueryRow(ctx, "select relname from pg_class where oid = $1::regclass", "orders").Scan(&name); err != nil || name != "orders" {
		t.Error(name, err)
	}
	if err := c.QueryRow(ctx, "select relname from pg_class where oid = $1::regclass", "zz_vault").Scan(&name); err != pgx.ErrNoRows { //nolint:errorlint // as it is given
		t.Error(name, err)
	}
	// What was prepared under a longer list is not what is run under a shorter.
	if _, err := c.Prepare(ctx, "names", "select relname from pg_class where relkind = 'r' and oid > 16384"); err != nil {
		t.Fatal(err)
	}
	g.options(&judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": {}}}}, TaskOptions{Introspect: true, Listed: Listing(func(string, []string) bool { return false })}, ResourceOptions{}, "listed")
	if got, err := c.PgConn().ExecPrepared(ctx, "names", nil, nil, nil).Close(); code(err) != "0A000" {
		t.Errorf("%v %v", got, err)
	}
}

// TestListedProbe: the server's own reading of a text in which the lists stand is no
// disagreement.
func TestListedProbe(t *testing.T) {
	g, _, _ := listed(t)
	now := g.Current()
	g.options(now.Guards[0], *reads(now.Tasks["x"]), ResourceOptions{Probe: true}, "probed")
	c := g.connect(t)
	for _, text := range []string{"select relname from pg_class", "select c.relname, n.nspname, c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relname like 'o%'",
		"select table_name from information_schema.tables", "select id from shown", "select * from parts"} {
		if _, err := c.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if n := g.protocol.Probes(); n.Agreed < 4 || n.Disagreed != 0 || n.Failed != 0 {
		t.Errorf("%+v %s", n, g.said())
	}
}

// TestListedClients: node-postgres, pgx and SQLAlchemy learn what types and tables
// there are.
func TestListedClients(t *testing.T) {
	_, w, tells := listed(t)
	g := &gateway{addr: w.addr}
	for name, args := range map[string][]string{"node": {"testdata/clients/listed.js"}, "/usr/bin/python3": {"testdata/clients/listed.py"}} {
		out, err := g.output(t, "", name, args...)
		if err != nil || !strings.Contains(out, "orders") || !strings.Contains(out, "customers") || tells([]byte(out)) != "" {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if got := string(w.take()); tells([]byte(got)) != "" {
			t.Errorf("%s gets %s:\n%s", name, tells([]byte(got)), around(got, tells([]byte(got))))
		}
	}
	c := g.connect(t)
	typ, err := c.LoadType(context.Background(), "order_state")
	if err != nil || typ.Name != "order_state" {
		t.Error(typ, err)
	}
	if _, err := c.LoadType(context.Background(), "zz_vault"); err == nil {
		t.Error("the row of a table that is not listed is a type")
	}
	if pgtest.Major() >= 15 && tells(w.take()) != "" {
		t.Error("pgx is told")
	}
}
