package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
)

// protector is a guard that allows what is understood and wants columns
// protected.
type protector struct {
	rules
	mu      sync.Mutex
	protect []abi.Protect
	oracle  []string
	blind   bool
	batch   func(*abi.Batch) (*abi.Batch, error)
	asked   int // for how many batches
}

func (p *protector) May() abi.May { return abi.May{Allow: true, Mask: true} }
func (p *protector) Command(_ context.Context, c *abi.Command) (*abi.Verdict, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := &abi.Verdict{Decision: abi.Allow, Protect: p.protect, ShowErrors: true}
	v.Terms.Oracle, v.Terms.Blind = p.oracle, p.blind
	if c.Statement.Incomplete != "" {
		v = &abi.Verdict{Decision: abi.Deny}
	}
	return v, nil
}
func (p *protector) ResultBatch(_ context.Context, _ *abi.Session, b *abi.Batch) (*abi.Batch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.batch(b)
}

// batches exchanges what masks.
func (p *protector) batches(f func(*abi.Batch) (*abi.Batch, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batch = f
}

// protects exchanges what is masked.
func (p *protector) protects(list []abi.Protect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.protect = list
}

// each masks cell by cell.
func each(b *abi.Batch, f func(cell []byte, null bool) ([]byte, bool)) *abi.Batch {
	out := &abi.Batch{Rows: b.Rows}
	for i := range b.Columns {
		in := &b.Columns[i]
		c := abi.BatchColumn{Index: in.Index, Name: in.Name, Type: in.Type, Binary: in.Binary, Arg: in.Arg, Offsets: []uint32{0}}
		for j := range b.Rows {
			cell, ok := in.Cell(j)
			c.Add(f(cell, !ok))
		}
		out.Columns = append(out.Columns, c)
	}
	return out
}

func masks(kind abi.MaskKind, arg string, columns ...string) (list []abi.Protect) {
	for _, c := range columns {
		relation, column, _ := strings.Cut(c, ".")
		list = append(list, abi.Protect{Relation: []string{"public", relation}, Column: column, Kind: kind, Arg: arg})
	}
	return list
}

// people are rows whose values are made anew for each run, in columns of many
// types. needles are what must not be seen of them.
type people struct {
	needles [][]byte
	text    string // of the first one's ssn
}

// secrets are the columns of people that are protected.
var secrets = []string{"people.ssn", "people.pay", "people.tag", "people.raw", "people.doc", "people.dom", "people.seen", "people.list"}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// people makes them in a gateway's database.
func (g *gateway) people(t testing.TB, rows int) *people {
	t.Helper()
	var b strings.Builder
	b.WriteString(`CREATE DOMAIN code AS text CHECK (length(VALUE) < 100);
		CREATE TABLE people (id int PRIMARY KEY, name text, ssn text UNIQUE, pay numeric, tag uuid, raw bytea, doc jsonb, dom code, seen timestamptz, list text[], note text, CONSTRAINT shorter CHECK (ssn <> name));
		CREATE TABLE badges (id int PRIMARY KEY, person int REFERENCES people DEFERRABLE INITIALLY DEFERRED, ssn text UNIQUE DEFERRABLE INITIALLY DEFERRED, note text NOT NULL);
		CREATE VIEW faces AS SELECT id, name, ssn FROM people;
`)
	p := &people{}
	for i := range rows {
		ssn := "S" + random(8) + "\t,\"\\ü"
		if i == 0 {
			p.text = ssn
		}
		var n [8]byte
		_, _ = rand.Read(n[:])
		fmt.Fprintf(&b, "INSERT INTO people VALUES (%d, 'n%d', '%s', %d.25, gen_random_uuid(), '\\x%s', '{\"k\": \"%s\"}', '%s', timestamptz '1900-01-01' + %d * interval '1 us', ARRAY['%s', '%s'], 'note %d');\n",
			i+1, i+1, ssn, binary.BigEndian.Uint64(n[:])>>1|1<<60, random(16), random(10), random(11), (binary.BigEndian.Uint64(n[:])>>12)|1<<50, random(9), random(9), i+1)
	}
	b.WriteString("GRANT SELECT, INSERT, UPDATE, DELETE ON people, badges, faces TO app;")
	if out, err := server.Psql(g.db, b.String()); err != nil {
		t.Fatal(out, err)
	}
	c := g.direct(t)
	for _, format := range []int16{0, 1} {
		r := c.PgConn().ExecParams(t.Context(), "SELECT ssn, pay, tag, raw, doc, dom, seen, list[1] FROM people", nil, nil, nil, []int16{format}).Read()
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		for _, row := range r.Rows {
			for _, cell := range row {
				if len(cell) < 8 {
					t.Fatalf("a needle of %d bytes", len(cell))
				}
				p.needles = append(p.needles, bytes.Clone(cell))
			}
			if format == 0 { // as it stands in arrays, escapes and encodings
				p.needles = append(p.needles, bytes.Clone(row[0][:17]), bytes.Clone(row[3][2:]), []byte(hex.EncodeToString(row[0][:17])))
			}
		}
	}
	return p
}

// found gives a needle that is in b.
func (p *people) found(b []byte) string {
	for _, n := range p.needles {
		if bytes.Contains(b, n) {
			return fmt.Sprintf("%q", n)
		}
	}
	return ""
}

func (g *gateway) direct(t testing.TB) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.URL("postgres", g.db))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// tap keeps every byte that a client gets.
type tap struct {
	net.Conn
	got bytes.Buffer
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.got.Write(b[:n])
	return n, err
}

// tapped connects to the gateway, or to the server itself, and gives what comes.
func (g *gateway) tapped(t testing.TB, url string) (*pgconn.PgConn, *tap) {
	t.Helper()
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	got := &tap{}
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		got.Conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return got, err
	}
	config.TLSConfig, config.Fallbacks = nil, nil
	c, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c, got
}

// ways are how a client can ask for a text.
var ways = map[string]func(ctx context.Context, c *pgconn.PgConn, text string) error{
	"simple": func(ctx context.Context, c *pgconn.PgConn, text string) error {
		_, err := c.Exec(ctx, text).ReadAll()
		return err
	},
	"extended, text": func(ctx context.Context, c *pgconn.PgConn, text string) error {
		return each1(ctx, c, text, []int16{0})
	},
	"extended, binary": func(ctx context.Context, c *pgconn.PgConn, text string) error {
		return each1(ctx, c, text, []int16{1})
	},
	"no format": func(ctx context.Context, c *pgconn.PgConn, text string) error { return each1(ctx, c, text, nil) },
	"prepared": func(ctx context.Context, c *pgconn.PgConn, text string) error {
		name := fmt.Sprintf("p%x", sha256.Sum256([]byte(text)))[:20]
		if _, err := c.Prepare(ctx, name, text, nil); err != nil {
			return err
		}
		for _, format := range []int16{0, 1, 0} {
			if r := c.ExecPrepared(ctx, name, nil, nil, []int16{format}).Read(); r.Err != nil {
				return r.Err
			}
		}
		return nil
	},
}

func each1(ctx context.Context, c *pgconn.PgConn, text string, formats []int16) error {
	for _, one := range strings.Split(text, "; ") {
		if r := c.ExecParams(ctx, one, nil, nil, nil, formats).Read(); r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// shown are texts that copy what is protected. Each shows it at the server.
var shown = []string{
	"select ssn from people", "select * from people", "select p.*, p.ssn from people p where id > 0 order by name",
	"select ssn as a, name as a, raw as a, tag as a from people", // PM20
	"select x.a from (select ssn as a from people) x", "with w as (select * from people) select * from w",
	"select name from people union all select ssn from people", "select l.ssn from generate_series(1, 2) g left join lateral (select * from people) l on true",
	"select ssn from faces", "select (select ssn from people where id = 1)", "table people", "select b.id, p.ssn from badges b right join people p on p.id = b.person",
	"update people set note = 'x' where id = 1 returning *", "update people set note = 'x' returning ssn, id",
	"begin; delete from people where id = 2 returning ssn, raw; rollback",
	"begin; insert into people (id, note) values (100, 'x') returning *; table people; rollback",
	"begin; declare c cursor for select * from people; fetch 2 from c; fetch all from c; commit",
	"begin; declare c binary cursor for select id, ssn, raw, tag from people; fetch 2 from c; move 1 in c; fetch all from c; close c; commit",
	"begin; declare c cursor with hold for select ssn from people; commit; fetch all from c; close c",
	"prepare q as select * from people; execute q; execute q; deallocate q",
	"select 1; select ssn from people; select name from people",
	"copy people to stdout", "copy people (id, ssn, note) to stdout csv header", "copy (select * from people) to stdout (format binary)",
	`copy people (ssn) to stdout (format csv, force_quote *, null 'NULL', delimiter ';', quote '''', escape '\')`,
	"copy people to stdout (delimiter '|', header)", "copy (update people set note = 'y' returning *) to stdout csv",
	"copy (select ssn from people where id < 0) to stdout (format binary)", "select name from people where id = 1; copy people to stdout; select ssn from people",
}

// values gives all that a text shows.
func values(ctx context.Context, c *pgconn.PgConn, text string) []byte {
	var b bytes.Buffer
	for _, one := range strings.Split(text, "; ") {
		if strings.HasPrefix(one, "copy") {
			_, _ = c.CopyTo(ctx, &b, one)
			continue
		}
		list, err := c.Exec(ctx, one).ReadAll()
		for _, r := range list {
			for _, row := range r.Rows {
				for _, cell := range row {
					b.Write(cell)
					b.WriteByte(' ')
				}
			}
		}
		var e *pgconn.PgError
		if errors.As(err, &e) {
			fmt.Fprintf(&b, "%+v", *e)
		}
	}
	return b.Bytes()
}

// TestPM01PM02PM03PM05PM19PM20Shown asks for what is protected in every way that
// is allowed, and looks for it in every byte that comes.
func TestPM01PM02PM03PM05PM19PM20Shown(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskNull, "", secrets...)}
	g := serve(t, guard)
	p := g.people(t, 5)
	direct := g.direct(t).PgConn()
	for _, text := range shown {
		if b := values(t.Context(), direct, text); p.found(b) == "" && !strings.Contains(text, "id < 0") {
			t.Errorf("%s: nothing is to be seen at the server: %q", text, b)
		}
	}
	for name, way := range ways {
		c, got := g.tapped(t, g.url())
		for _, text := range shown {
			if name == "prepared" && strings.Contains(text, "; ") {
				continue
			}
			if err := way(t.Context(), c, text); err != nil {
				t.Errorf("%s: %s: %v", name, text, err)
			}
			if c.TxStatus() != 'I' {
				_, _ = c.Exec(t.Context(), "rollback").ReadAll()
			}
		}
		if n := p.found(got.got.Bytes()); n != "" {
			t.Errorf("%s: %s came through", name, n)
		}
		if !bytes.Contains(got.got.Bytes(), []byte("n3")) {
			t.Errorf("%s: what is not protected did not come", name)
		}
	}
	// Nobody describes anything, and cursors and portals are resumed.
	nc := &tap{Conn: g.in(t)}
	for _, text := range shown {
		b := query("begin")
		for _, one := range strings.Split(text, "; ") {
			b = join(b, parseMsg("", one), frame('B', []byte("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01")),
				frame('E', []byte("\x00\x00\x00\x00\x02")), frame('E', []byte("\x00\x00\x00\x00\x02")), executeMsg(""), sync_())
		}
		if _, err := nc.Write(join(b, query("rollback"), query("deallocate all"))); err != nil {
			t.Fatal(err)
		}
		kinds(t, nc, 3+strings.Count(text, "; ")+1)
	}
	if n := p.found(nc.got.Bytes()); n != "" || !bytes.Contains(nc.got.Bytes(), []byte("n3")) {
		t.Errorf("raw: %q came through", n)
	}
	if said := g.said(); said != "" {
		t.Error(said)
	}
}

// TestPM34ToldApart holds that a client cannot have the server treat values that
// it guesses otherwise than others before they are masked.
func TestPM34ToldApart(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskKeep, "0,4", "people.ssn")}
	g := serve(t, guard)
	g.people(t, 3)
	c, _ := g.tapped(t, g.url())
	for _, text := range []string{
		"copy people (ssn) to stdout (null 'guess')", "copy people (ssn) to stdout (null '')", "copy people (id, ssn) to stdout with null 'x'",
		"copy people (id, ssn) to stdout (encoding 'latin1')", "copy people (id, ssn) to stdout (format csv, encoding 'sjis')",
	} {
		var e *pgconn.PgError
		if _, err := c.Exec(t.Context(), text).ReadAll(); !errors.As(err, &e) || e.Code != "42501" {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"copy people (id, ssn) to stdout", "copy people (ssn) to stdout (format csv, null 'guess')", "copy people (id) to stdout (null '\\N')", "set extra_float_digits = 3",
		"select ctid, xmin, cmin, xmax, cmax, tableoid, ssn from people"} { // nobody protects a system column
		if _, err := c.Exec(t.Context(), text).ReadAll(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if r := c.ExecParams(t.Context(), "select ctid, xmin, ssn from people", nil, nil, nil, []int16{1}).Read(); r.Err != nil || len(r.Rows) != 3 {
		t.Error(r.Err)
	}
}

// TestPM05FormatsOfAPortal: what a Bind says of the form of its columns holds for
// its rows, whatever has been read since.
func TestPM05FormatsOfAPortal(t *testing.T) {
	g := serve(t, &protector{protect: masks(abi.MaskFixed, `"x"`, "people.doc")})
	g.people(t, 1)
	for _, results := range [][]uint16{{0, 1, 1, 0}, {1, 1, 1, 1}, {1}, {0, 1, 0, 1}} {
		var got []string
		bind := join(parseMsg("s", "select id, doc, note, doc from people"), bindValues("x", "s", nil, nil, results), sync_())
		for _, between := range [][]byte{nil, query("select '" + strings.Repeat("x", 20_000) + "'")} {
			nc := g.in(t)
			_ = nc.SetDeadline(time.Now().Add(time.Minute))
			send(t, nc, query("begin"), bind)
			n := 2
			if between != nil {
				send(t, nc, between)
				n++
			}
			kinds(t, nc, n)
			send(t, nc, executeMsg("x"), sync_())
			for {
				kind, body, err := readMessage(nc)
				if err != nil {
					t.Fatal(err)
				}
				if kind == 'D' {
					got = append(got, string(body))
				}
				if kind == 'Z' {
					break
				}
			}
			nc.Close()
		}
		if len(got) != 2 || got[0] != got[1] {
			t.Errorf("%v: %q", results, got)
		}
	}
}

// TestWholeRows: a row as a value is shown where all of it may be, though the server says
// of it which table it is from and no column.
func TestWholeRows(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskNull, "", "people.ssn")}
	g := serve(t, guard)
	g.askOf(t, g.db, "CREATE TABLE people (id int, ssn text); CREATE TABLE places (id int, name text); INSERT INTO people VALUES (1, 'hidden'); INSERT INTO places VALUES (1, 'x'); CREATE VIEW seen AS SELECT id FROM people; GRANT SELECT ON people, places, seen TO app")
	for text, want := range map[string]string{
		"select places from places":                           "TDC",
		"select s, s.id from seen s":                          "TDC",
		"select x from (select places as x from places) y":    "TDC",
		"select p, q from places p join seen q using (id)":    "TDC",
		"select people from people":                           "E",
		"select x from (select p as x from people p) y":       "E",
		"select places, (select p from people p) from places": "E",
	} {
		c := g.in(t)
		if got, code := guarded(t, c, text); got != want || want == "E" && code != "42501" {
			t.Errorf("%s: %s %s", text, got, code)
		}
		c.Close()
	}
}
