package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// twinSchema is what the sequences work on, and twinReset what each begins with.
const (
	twinSchema = `CREATE TABLE t (id int PRIMARY KEY, v text, n int); CREATE TABLE u (id int, t_id int REFERENCES t DEFERRABLE INITIALLY DEFERRED, w text);
		CREATE SCHEMA side; GRANT USAGE ON SCHEMA side TO app; CREATE TABLE side.t (id int, other text); GRANT ALL ON side.t TO app; INSERT INTO side.t VALUES (1, 'other');`
	twinReset = `TRUNCATE t, u; INSERT INTO t SELECT i, 'v' || i, 3 - i FROM generate_series(1, 8) i;`
)

// step is what a client sends in one go, and how a failure shows it.
type step struct {
	text string
	send []byte
}

func (s step) String() string { return s.text }

// twinTexts are sent by either protocol. What the gateway refuses of its own
// accord is not among them: docs/limits.md and docs/status.md name it.
var twinTexts = []string{
	"select 1", "select id, v from t order by id", "select id from t where id < 4", "values (1, 'a'), (2, 'b')", "table t", "select v, n from t where id = 2 for update",
	"select generate_series(1, 5)", "select null::text, true, 1.5", "select count(*) from t", "select * from t where false",
	"select 1/0", "select 1/n from t order by id", "select v::int from t", "select 'x'::int", "selct", "select * from nowhere", "select nothing from t", "select nofunc()", "select 'a",
	"insert into t values (9, 'nine', 9)", "insert into t values (1, 'twice', 1)", "update t set v = 'x' where id = 1 returning id, v", "update t set n = n + 1", "delete from t where id > 5",
	"delete from t where id = 2 returning *", "insert into u values (1, 99, 'dangling')", "insert into u values (2, 3, 'fine')", "truncate u", "insert into t select id + 100, v, n from t",
	"begin", "begin", "begin", "start transaction read only", "begin isolation level serializable", "commit", "commit", "end", "rollback", "rollback", "abort",
	"savepoint a", "savepoint b", "savepoint a", "rollback to a", "rollback to b", "release a", "release b", "rollback to nope",
	"", ";", "-- nothing", ";;select 1;;",
	"set timezone = 'UTC'", "set timezone = 'Asia/Tokyo'", "set datestyle = 'German'", "set local timezone = 'Europe/Paris'", "reset all", "reset timezone", "set application_name = 'twin'", "set extra_float_digits = 0",
	"set transaction read only", "set transaction isolation level serializable", "set session characteristics as transaction read write", "set constraints all immediate",
	"set search_path = side", "set search_path = public", "set local search_path = side, public", "reset search_path", "show search_path", "select * from side.t",
	"listen x", "unlisten x", "notify x", "unlisten *", "discard all", "discard plans", "lock t in access share mode", "lock t",
	"explain (costs off) select id from t", "show timezone", "show nope",
	"copy t to stdout", "copy (select id, v from t order by id) to stdout", "copy t (id, v) to stdout with (format csv)",
	"merge into t using (values (1), (77)) as s(k) on t.id = s.k when matched then update set v = 'merged' when not matched then insert values (s.k, 'new', 0)",
}

// twinNames make names and use them, by Query messages: by the extended protocol
// one that is not there fails at Parse or Bind, and at the server at Execute.
var twinNames = []string{
	"prepare p as select id from t where id = $1", "prepare p as select 2", "prepare q as insert into t values (50, 'p', 1)", "execute p", "execute p(1)", "execute q", "deallocate p", "deallocate all", "execute nope",
	"declare c cursor for select id from t order by id", "declare h cursor with hold for select id, v from t order by id", "declare d scroll cursor for select 1/n from t order by id",
	"fetch c", "fetch 2 from c", "fetch 3 from h", "close h", "fetch all from c", "move 1 in c", "fetch backward 1 from d", "fetch 2 from d", "close c", "close d", "close all", "fetch nope",
}

// twinScripts are texts of several statements, for Query messages.
var twinScripts = []string{
	"explain select * from nowhere", "show nope", "copy nowhere to stdout", "set timezone = 'Nowhere/Land'",
	"select 1; select 2", "select 1; select 1/0; select 3", "insert into t values (20, 'a', 1); select id from t where id = 20", "insert into t values (21, 'a', 1); select 1/0",
	"begin; insert into t values (22, 'a', 1); commit", "begin; insert into t values (23, 'a', 1)", "insert into t values (24, 'a', 1); begin; select 1/0", "commit; select 1", "rollback; select 1",
	"insert into t values (25, 'a', 1); commit; select 1/0", "insert into t values (26, 'a', 1); rollback; select 1", "begin; declare c cursor for select id from t order by id; fetch c; commit",
	"prepare p as select 1; execute p; deallocate p", "set timezone = 'Asia/Tokyo'; select 1/0", "begin; set local search_path = side; select * from t; commit", "select 1; selct", "update t set v = 'm'; select v from t order by id limit 1; delete from t where id = 8",
	"savepoint a", "begin; savepoint a; select 1/0; rollback to a", "copy t to stdout; select 1", "listen x; notify x; select 1", "select 1; ; select 2;",
}

// twinCopies begin a COPY whose data follows.
var twinCopies = []string{"copy t from stdin", "copy t (id, v) from stdin", "copy t from stdin with (format csv)", "copy u (id, t_id) from stdin with (format csv)", "copy t from stdin binary", "select 1"}

var twinData = [][]byte{
	frame('d', []byte("60\tx\t1\n")), frame('d', []byte("61\ty\n")), frame('d', []byte("62,z,3\n")), frame('d', []byte("63\tw")), frame('d', []byte("\t4\n")), frame('d', nil),
	frame('d', []byte("not a number\n")), frame('d', []byte("1\ttwice\t1\n")), frame('d', []byte("\\.\n")), frame('H', nil), sync_(), sync_(),
}

var twinStatements, twinPortals = []string{"", "", "s", "r", "p"}, []string{"", "", "x", "y", "c"}

// parameterised texts, with the values that Bind gives them.
var twinParams = []string{
	"select id, v from t where id = $1", "insert into t values ($1, $2, 0)", "update t set v = $2 where id = $1", "select $1::int + 1, $2::text", "delete from t where id = $1 returning v",
	"select 10 / $1::int", "select id from t where v = $2 and id = $1",
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func parseTyped(name, text string, types ...uint32) []byte {
	b := binary.BigEndian.AppendUint16([]byte(name+"\x00"+text+"\x00"), uint16(len(types)))
	for _, t := range types {
		b = binary.BigEndian.AppendUint32(b, t)
	}
	return frame('P', b)
}

func bindValues(portal, name string, formats []uint16, values []string, results []uint16) []byte {
	b := []byte(portal + "\x00" + name + "\x00")
	shorts := func(list []uint16) {
		b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
		for _, v := range list {
			b = binary.BigEndian.AppendUint16(b, v)
		}
	}
	shorts(formats)
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		if v == "NULL" {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	shorts(results)
	return frame('B', b)
}

func executeLimit(portal string, n uint32) []byte {
	return frame('E', binary.BigEndian.AppendUint32([]byte(portal+"\x00"), n))
}

// twinStep makes one step at random.
func twinStep(r *rand.Rand) step {
	text, st, po := pick(r, twinTexts), pick(r, twinStatements), pick(r, twinPortals)
	limit := uint32(r.IntN(3))
	switch n := r.IntN(100); {
	case n < 10:
		text = pick(r, twinNames)
		return step{"Query " + text, query(text)}
	case n < 22:
		return step{"Query " + text, query(text)}
	case n < 30:
		text = pick(r, twinScripts)
		return step{"Query " + text, query(text)}
	case n < 40:
		return step{fmt.Sprintf("Parse %q %s, Bind %q, Describe, Execute %d", st, text, po, limit),
			join(parseMsg(st, text), bindMsg(po, st), frame('D', []byte("P"+po+"\x00")), executeLimit(po, limit))}
	case n < 46:
		return step{fmt.Sprintf("Parse %q %s", st, text), parseMsg(st, text)}
	case n < 52:
		return step{fmt.Sprintf("Bind %q %q", po, st), bindMsg(po, st)}
	case n < 59: // not the unnamed one: a Query that fails leaves one of its own behind, if the server has run it
		po = pick(r, twinPortals[2:4])
		return step{fmt.Sprintf("Execute %q %d", po, limit), executeLimit(po, limit)}
	case n < 62:
		po = pick(r, twinPortals[2:])
		return step{fmt.Sprintf("Describe portal %q", po), frame('D', []byte("P"+po+"\x00"))}
	case n < 65:
		return step{fmt.Sprintf("Describe statement %q", st), frame('D', []byte("S"+st+"\x00"))}
	case n < 68:
		return step{fmt.Sprintf("Close portal %q", po), frame('C', []byte("P"+po+"\x00"))}
	case n < 71:
		return step{fmt.Sprintf("Close statement %q", st), frame('C', []byte("S"+st+"\x00"))}
	case n < 82:
		return step{"Sync", sync_()}
	case n < 84:
		return step{"Flush", frame('H', nil)}
	case n < 86:
		kind := pick(r, []byte("dcf"))
		return step{fmt.Sprintf("%q out of place", kind), frame(kind, []byte("70\tz\t1\n\x00")[:map[byte]int{'d': 7, 'f': 8}[kind]])}
	case n < 93:
		text = pick(r, twinParams)
		first := pick(r, []string{"1", "3", "0", "40", "NULL", "abc", "99999999999"})
		formats, results := []uint16(nil), pick(r, [][]uint16{nil, {0}, {1}, {0, 1}, {0, 0, 0}})
		if r.IntN(3) == 0 {
			first, formats = string(binary.BigEndian.AppendUint32(nil, uint32(r.IntN(9)))), []uint16{1, 0}
		}
		values := []string{first, pick(r, []string{"v1", "é", "", "NULL", "it's"})}
		if r.IntN(8) == 0 { // too few; where the portal's name is taken as well, that would be two faults at once
			po, values, formats = "", values[:1], formats[:min(1, len(formats))]
		}
		return step{fmt.Sprintf("Parse %q %s, Bind %q %q %v %v, Execute %d", st, text, po, values, formats, results, limit),
			join(parseTyped(st, text, 23, 25), frame('D', []byte("S"+st+"\x00")), bindValues(po, st, formats, values, results), executeLimit(po, limit))}
	default:
		text = pick(r, twinCopies)
		s := step{"Query " + text, query(text)}
		if r.IntN(2) == 0 {
			s = step{"Parse, Bind, Execute " + text, join(parseMsg("", text), bindMsg("", ""), executeMsg(""))}
		}
		for range r.IntN(6) {
			d := pick(r, twinData)
			s.text, s.send = s.text+fmt.Sprintf(" %c%q", d[0], d[5:]), append(s.send, d...)
		}
		switch r.IntN(16) {
		case 0: // the data goes on in the next step, or that ends the session
			return s
		case 1, 2, 3:
			return step{s.text + " CopyFail", append(s.send, frame('f', []byte("enough\x00"))...)}
		}
		return step{s.text + " CopyDone", append(s.send, frame('c', nil)...)}
	}
}

// transcript sends the steps and then goodbye, in pieces of that size, and
// gives what came back until the end: kinds, codes, tags, shapes and cells.
func transcript(nc net.Conn, steps []step, piece int) ([]string, error) {
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	var all []byte
	for _, s := range steps {
		all = append(all, s.send...)
	}
	all = append(all, join(frame('H', nil), frame('X', nil))...)
	go func() {
		for part := range slices.Chunk(all, piece) {
			if _, err := nc.Write(part); err != nil {
				return // the answers say why
			}
		}
	}()
	var out []string
	for {
		kind, body, err := readMessage(nc)
		if err != nil {
			var timeout net.Error
			if te, ok := err.(net.Error); ok { //nolint:errorlint // as it comes from the connection
				timeout = te
			}
			if timeout != nil && timeout.Timeout() {
				return out, err
			}
			return out, nil
		}
		if kind == 'S' && bytes.HasPrefix(body, []byte("session_authorization")) { // servers before 14 tell it with each DISCARD; the gateway says nothing of its login
			continue
		}
		out = append(out, said(kind, body))
	}
}

// said puts a message into words, without what two databases cannot agree on.
func said(kind byte, b []byte) string {
	switch kind {
	case 'E', 'N':
		_, severity, _ := strings.Cut("\x00"+string(b), "\x00V")
		_, code, _ := strings.Cut("\x00"+string(b), "\x00C")
		_, place, _ := strings.Cut("\x00"+string(b), "\x00P")
		severity, _, _ = strings.Cut(severity, "\x00")
		place, _, _ = strings.Cut(place, "\x00")
		if strings.HasPrefix(code, "26000") || strings.HasPrefix(code, "34000") { // names of the client's, which either end may miss
			_, place, _ = strings.Cut("\x00"+string(b), "\x00M")
			place, _, _ = strings.Cut(place, "\x00")
		}
		if strings.HasPrefix(code, "42601") {
			_, message, _ := strings.Cut("\x00"+string(b), "\x00M")
			message, _, _ = strings.Cut(message, "\x00")
			place += " " + message
		}
		return strings.TrimRight(fmt.Sprintf("%c %s %.5s %s", kind, severity, code, place), " ")
	case 'A':
		return "A " + strings.TrimRight(string(b[4:]), "\x00")
	case 'T': // the tables' numbers differ
		c := cursor{b: b}
		s := "T"
		for range c.uint16() {
			name := c.string()
			c.uint32()
			s += fmt.Sprintf(" %s:%d:%x", name, c.uint16(), c.bytes(12))
		}
		return s
	}
	return fmt.Sprintf("%c %q", kind, b)
}

// twins are a database that is reached directly and its like behind a gateway.
type twins struct {
	g      *gateway
	direct string
	reset  [2]*pgx.Conn
}

// understood allows whatever is understood.
func understood(c *abi.Command) bool { return c.Statement.Incomplete == "" }

func makeTwins(t *testing.T) *twins {
	t.Helper()
	w := &twins{g: serve(t, &rules{allow: understood}), direct: shop(t)}
	for i, db := range []string{w.direct, w.g.db} {
		if _, err := server.Psql(db, twinSchema+"GRANT ALL ON t, u TO app;"); err != nil {
			t.Fatal(err)
		}
		c, err := pgx.Connect(t.Context(), server.URL("postgres", db))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		w.reset[i] = c
	}
	return w
}

// run gives both transcripts, with what the tables hold in the end.
func (w *twins) run(t *testing.T, steps []step, piece int) (direct, through []string) {
	t.Helper()
	var out [2][]string
	for i, c := range w.reset {
		if _, err := c.Exec(t.Context(), twinReset); err != nil {
			t.Fatal(err)
		}
		var nc net.Conn
		if i == 0 {
			p, err := pgconn.Connect(t.Context(), server.URL("app", w.direct))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.SyncConn(t.Context()); err != nil { // on a busy machine it may still read ahead, and would take what comes
				t.Fatal(err)
			}
			h, err := p.Hijack()
			if err != nil {
				t.Fatal(err)
			}
			nc = h.Conn
		} else {
			nc = w.g.in(t)
		}
		var err error
		if out[i], err = transcript(nc, steps, piece); err != nil {
			out[i] = append(out[i], err.Error())
		}
		nc.Close()
		var state string
		if err := c.QueryRow(t.Context(), "select concat((select string_agg(t::text, ' ' order by id, v) from t), (select string_agg(u::text, ' ' order by id) from u))").Scan(&state); err != nil {
			t.Fatal(err)
		}
		out[i] = append(out[i], state)
	}
	return out[0], out[1]
}

// TestTransparent: whatever a client sends, in whatever order, it is answered
// through the gateway as it would be without, where the task allows it; in the
// clear and over TLS, by protocol 3.0 and 3.2, with both streams cut at every byte.
func TestTransparent(t *testing.T) {
	seed, most := uint64(1), 12 // the same conversations in every run; another seed goes on for longer
	if s := os.Getenv("TASKGATE_TEST_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
		most = 1 << 20
	}
	r := rand.New(rand.NewPCG(seed, 0))
	w := makeTwins(t)
	w.g.secured(t)
	w.g.protocol.Plain = true
	n, refused := 0, 0
	for end := time.Now().Add(4 * time.Second); n < most && time.Now().Before(end); n++ {
		steps := make([]step, 1+r.IntN(40))
		for i := range steps {
			steps[i] = twinStep(r)
		}
		piece := pick(r, []int{1 << 20, 1 << 20, 7, 100, 1})
		w.g.overTLS, w.g.newer = n%2 == 1, n%4 > 1
		w.g.protocol.Loop(n%5 > 1)
		if w.g.Dialer = (dialer{w.g.db}); n%3 == 0 { // every byte of the server's comes by itself
			w.g.Dialer = dribble{dialer{w.g.db}}
		}
		direct, through := w.run(t, steps, piece)
		if own(direct, through) {
			refused++
			continue
		}
		if slices.Equal(direct, through) {
			continue
		}
		steps = w.shrink(t, steps, piece)
		direct, through = w.run(t, steps, piece)
		for _, s := range steps {
			t.Log(s)
		}
		t.Fatalf("TASKGATE_TEST_SEED=%d, sequence %d:\ndirect\n%s\nthrough\n%s", seed, n, strings.Join(direct, "\n"), strings.Join(through, "\n"))
	}
	if t.Logf("seed %d: %d sequences on server %d, %d with a refusal", seed, n, pgtest.Major(), refused); n > 20 && refused > n/2 {
		t.Errorf("seed %d: too many refusals", seed)
	}
}

// own says whether the gateway has refused something of its own accord, as
// what follows a COMMIT in one text where the search path has been moved, or
// FETCH from a portal; or the server has met an internal fault (XX000). Behind a
// server 13 it ends a session whose COPY is interrupted.
func own(direct, through []string) bool {
	if gone := "E FATAL 08P01"; pgtest.Major() < 14 && slices.Contains(through, gone) && !slices.Contains(direct, gone) {
		return true
	}
	return slices.Contains(direct, "E ERROR XX000") || slices.ContainsFunc([]string{"E ERROR 42501", "E ERROR 0A000"}, func(denied string) bool {
		return slices.Contains(through, denied) && !slices.Contains(direct, denied)
	})
}

// shrink leaves out the steps that the difference does not need.
func (w *twins) shrink(t *testing.T, steps []step, piece int) []step {
	for i := 0; i < len(steps); {
		fewer := slices.Delete(slices.Clone(steps), i, i+1)
		if direct, through := w.run(t, fewer, piece); slices.Equal(direct, through) || own(direct, through) {
			i++
		} else {
			steps = fewer
		}
	}
	return steps
}
