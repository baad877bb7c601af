package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/internal/sqlgen"
)

// twins are two databases that are equal but for protected values, behind the
// real gateway.
type twins struct {
	gateway *gatewayWorld
	pg      *pgtest.Server
	super   [2]*pgx.Conn
	users   []*twinUser
	oids    uint32 // of what both have are not above it
}

// twinUser is somebody at each side; refused counts their errors, of which the
// gateway's refusals are a part. It bears a thousand of these a minute: whoever
// has had most of them rests for longer than that.
type twinUser struct {
	number  int
	tokens  [2]map[string]string
	refused int
	rests   time.Time // until
}

var sides = [2]string{"twin_a", "twin_b"}

// twinTask is one under which the twins must look alike. Of what is generated at
// least one in share must be accepted, or nothing is proved.
type twinTask struct {
	name, more string
	blind      bool
	share      int
}

// twinTasks differ in what shows errors: one cuts them always, the others where
// something protected was reached. Under all, writes that tell of anything by
// succeeding are refused, since such an answer is no fault of the gateway's.
// Under the last a text sees what masks show, which is the same for both twins.
var twinTasks = []twinTask{
	{name: "quiet", more: "oracle: refuse", share: 5},
	{name: "loud", more: "oracle: refuse\nshow_errors: true", share: 5},
	{name: "unseeing", more: "oracle: refuse\nshow_errors: true", blind: true, share: 2},
}

func newTwins(t *testing.T, users int) *twins {
	t.Helper()
	pg, err := pgtest.Start(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Stop() })
	if _, err := pg.Psql("postgres", "ALTER SYSTEM SET statement_timeout = '20s'; ALTER SYSTEM SET jit = off; SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	if err := pg.Database(sides[0], sqlgen.Schema(pgtest.Major())); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.Psql("postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER owner", sides[1], sides[0])); err != nil { // the same OIDs
		t.Fatal(err)
	}
	w := &twins{pg: pg}
	files := map[string]string{"password": pg.Password}
	for _, task := range twinTasks {
		files["tasks/"+task.name+".yaml"] = sqlgen.Task(task.name, sides[0]+", "+sides[1], task.more, pgtest.Major(), task.blind)
	}
	var resources strings.Builder
	var names []string
	for i, db := range sides {
		fmt.Fprintf(&resources, "  %s: {protocol: postgres, address: \"127.0.0.1:%d\", database: %s, tls: disable, logins: {app: {user: app, password: \"file:password\", privileged: accepted}}}\n", db, pg.Port, db)
		if w.super[i], err = pgx.Connect(t.Context(), pg.URL("postgres", db)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.super[i].Close(context.Background()) })
		for u := range users {
			names = append(names, fmt.Sprintf("u%d%c", u, 'a'+i))
		}
	}
	if err := w.super[0].QueryRow(t.Context(), "SELECT max(oid)::bigint FROM (SELECT oid FROM pg_class UNION SELECT oid FROM pg_type) o").Scan(&w.oids); err != nil {
		t.Fatal(err)
	}
	w.gateway = startGateway(t, names, files, resources.String())
	w.gateway.run(t, "operator", "check", "--live", "--accept")
	w.gateway.serve(t)
	for u := range users {
		w.users = append(w.users, &twinUser{number: u})
	}
	return w
}

// reset gives both sides new rows.
func (w *twins) reset(t *testing.T, seed uint64, round int) {
	t.Helper()
	var failed [2]error
	both(func(i int) {
		text := sqlgen.Fill(rand.New(rand.NewPCG(seed, uint64(round))), rand.New(rand.NewPCG(seed+uint64(i)+1, uint64(round)<<20)), pgtest.Major())
		for {
			_, err := w.super[i].Exec(t.Context(), text)
			var pe *pgconn.PgError
			if errors.As(err, &pe) && pe.Code == "55P03" { // a session is still about to end
				_, err = w.super[i].Exec(t.Context(), "ROLLBACK")
				if err == nil {
					continue
				}
			}
			failed[i] = err
			return
		}
	})
	if err := errors.Join(failed[:]...); err != nil {
		t.Fatal(err)
	}
}

func both(do func(i int)) {
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// pair is a session at each side, of one task.
type pair struct {
	user *twinUser
	conn [2]*twinConn
}

// twinConn keeps every byte that it gets, but for what is random: keys and
// session ids. What HASH and TOKENIZE show is kept as which are equal.
type twinConn struct {
	nc     net.Conn
	tokens map[string]string
	status byte
	oids   uint32 // those above it are the session's own tables'
}

// token gets what a user opens sessions of a task with, when it is first needed.
func (w *twins) token(t *testing.T, u *twinUser, task string) {
	t.Helper()
	for i, db := range sides {
		name := fmt.Sprintf("u%d%c", u.number, 'a'+i)
		if u.tokens[i] == nil {
			w.gateway.login(t, name)
			u.tokens[i] = map[string]string{}
		}
		if u.tokens[i][task] == "" {
			u.tokens[i][task] = w.gateway.token(t, name, task, db)
		}
	}
}

func (w *twins) open(t *testing.T, task string) *pair {
	t.Helper()
	for {
		i := slices.IndexFunc(w.users, func(u *twinUser) bool { return time.Now().After(u.rests) })
		if i < 0 {
			time.Sleep(time.Second)
			continue
		}
		u := w.users[i]
		w.token(t, u, task)
		p := &pair{user: u}
		var failed [2]error
		both(func(i int) {
			c, err := dialServer(w.gateway.addresses["postgres"], task, u.tokens[i][task], sides[i])
			if err != nil {
				failed[i] = err
				return
			}
			p.conn[i] = &twinConn{nc: c.conn, tokens: map[string]string{}, status: 'I', oids: w.oids}
		})
		if err := errors.Join(failed[:]...); err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func (p *pair) close() {
	for _, c := range p.conn {
		c.nc.Close()
	}
}

// said is what one side answered to a step.
type said struct {
	text   string
	codes  []string // of errors
	wrote  int      // rows, at least
	marker bool
	alarm  bool // the gateway has ended it: an answer is not what was judged
	ended  bool
}

// accepted says whether all of it was taken, by the gateway and by the server's
// parser.
func (s *said) accepted() bool {
	return !slices.ContainsFunc(s.codes, func(code string) bool { return code[:2] == "42" || code == "0A000" })
}

// tell says whether two sides can be told apart, or something is wrong with both.
func tell(out [2]said) bool {
	return out[0].text != out[1].text || out[0].marker || out[1].marker || out[0].alarm
}

// most is how many rows a round writes. On a page that is full the lengths of
// what is protected decide where a row comes to lie, and so in which order rows
// come that nothing sorts (docs/limits.md): no round gets that far.
const most = 8

var writes = regexp.MustCompile(`(?i)\b(insert|update|delete|merge|execute)\b|from stdin`)

func (p *pair) run(s *sqlgen.Step) (out [2]said) {
	both(func(i int) { out[i] = p.conn[i].run(s) })
	p.user.refused += max(len(out[0].codes), len(out[1].codes))
	if p.user.refused > 800 {
		p.user.refused, p.user.rests = 0, time.Now().Add(65*time.Second)
	}
	return out
}

var (
	sessionID = regexp.MustCompile(`session [0-9a-zA-Z_-]+`)
	ownSchema = regexp.MustCompile(`pg_temp_[0-9]+`)
	hashShape = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	tokShape  = regexp.MustCompile(`\b[A-Z][a-z]{2}-[0-9]{4}-[a-z]{3}\b`)
	sideNames = strings.NewReplacer(sides[0], "twin", sides[1], "twin")
)

func (c *twinConn) run(s *sqlgen.Step) (out said) {
	var b []byte
	ready := 0
	for _, m := range s.Messages {
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync, *pgproto3.FunctionCall:
			ready++
		}
		var err error
		if b, err = m.Encode(b); err != nil {
			return said{text: err.Error(), ended: true}
		}
	}
	_ = c.nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.nc.Write(b); err != nil {
		return said{text: "closed", ended: true}
	}
	var text strings.Builder
	head := make([]byte, 5)
	for ready > 0 {
		if _, err := io.ReadFull(c.nc, head); err != nil {
			out.ended = true
			fmt.Fprintf(&text, "closed\n")
			if errors.Is(err, os.ErrDeadlineExceeded) {
				text.WriteString("no answer\n")
			}
			break
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(c.nc, body); err != nil {
			out.ended = true
			break
		}
		switch head[0] {
		case 'Z':
			ready--
			c.status = body[0]
		case 'C':
			var word string
			var n int
			tag := strings.Fields(strings.TrimRight(string(body), "\x00"))
			if len(tag) > 1 {
				word = tag[0]
				_, _ = fmt.Sscan(tag[len(tag)-1], &n)
			}
			if slices.Contains([]string{"INSERT", "UPDATE", "DELETE", "MERGE"}, word) || s.Form == "copy in" {
				out.wrote += n
			}
		case 'E':
			var e pgproto3.ErrorResponse
			if e.Decode(body) == nil {
				out.codes = append(out.codes, e.Code)
				out.alarm = out.alarm || e.Severity == "FATAL" && e.Code == "XX000"
				if e.Code[:2] != "42" && writes.MatchString(s.Text) { // some, before it failed
					out.wrote += most / 2
				}
			}
		}
		out.marker = out.marker || bytes.Contains(body, []byte(sqlgen.Marker))
		if head[0] == 'T' {
			body = c.described(body)
		}
		fmt.Fprintf(&text, "%c %q\n", head[0], c.normal(body))
	}
	out.text = text.String()
	return out
}

// described takes out of a RowDescription the numbers of the session's own tables and
// of their types, which are the server's next ones.
func (c *twinConn) described(body []byte) []byte {
	var d pgproto3.RowDescription
	if d.Decode(body) != nil {
		return body
	}
	for i := range d.Fields {
		for _, oid := range []*uint32{&d.Fields[i].TableOID, &d.Fields[i].DataTypeOID} {
			if *oid > c.oids {
				*oid = c.oids + 1
			}
		}
	}
	b, err := d.Encode(nil)
	if err != nil {
		return body
	}
	return b[5:]
}

func (c *twinConn) normal(body []byte) string {
	s := sideNames.Replace(string(body))
	s = sessionID.ReplaceAllString(s, "session ID")
	s = ownSchema.ReplaceAllString(s, "pg_temp") // by the number of the server's process
	for _, shape := range []*regexp.Regexp{hashShape, tokShape} {
		s = shape.ReplaceAllStringFunc(s, func(v string) string {
			if c.tokens[v] == "" {
				c.tokens[v] = fmt.Sprintf("token %d", len(c.tokens))
			}
			return c.tokens[v]
		})
	}
	return s
}

// differ runs steps anew and says what differs first.
func (w *twins) differ(t *testing.T, seed uint64, round int, task string, steps []*sqlgen.Step) (at int, out [2]said) {
	t.Helper()
	w.reset(t, seed, round)
	p := w.open(t, task)
	defer p.close()
	for i, s := range steps {
		out = p.run(s)
		if tell(out) {
			return i, out
		}
		if out[0].ended {
			break
		}
	}
	return -1, out
}

// apart fails unless the sides can be told apart without a gateway: a test that
// finds no difference there would find none anywhere.
func (w *twins) apart(t *testing.T, seed uint64) {
	t.Helper()
	w.reset(t, seed, 0)
	p := &pair{user: &twinUser{}}
	for i, db := range sides {
		c, err := dialServer(w.pg.Addr(), "app", w.pg.Password, db)
		if err != nil {
			t.Fatal(err)
		}
		p.conn[i] = &twinConn{nc: c.conn, tokens: map[string]string{}, status: 'I', oids: w.oids}
	}
	defer p.close()
	g := sqlgen.New(rand.New(rand.NewPCG(seed, 7)), pgtest.Major(), false, 0)
	differences := 0
	for range 1000 {
		if out := p.run(g.Step(p.conn[0].status != 'I', p.conn[0].status == 'E')); out[0].text != out[1].text {
			differences++
		}
		if differences == 5 {
			return
		}
	}
	t.Errorf("of 1000 steps %d can be told apart at the servers themselves", differences)
}

// shrink leaves out the steps that a difference does not need.
func (w *twins) shrink(t *testing.T, seed uint64, round int, task string, steps []*sqlgen.Step) []*sqlgen.Step {
	t.Helper()
	for size := (len(steps) + 1) / 2; ; size /= 2 {
		for i := 0; i+size <= len(steps) && len(steps) > 1; {
			fewer := slices.Delete(slices.Clone(steps), i, i+size)
			if at, _ := w.differ(t, seed, round, task, fewer); at >= 0 {
				steps = fewer[:at+1]
			} else {
				i += size
			}
		}
		if size <= 1 {
			return steps
		}
	}
}

// around gives the lines of a where it is not b.
func around(a, b string) string {
	lines, others := strings.Split(a, "\n"), strings.Split(b, "\n")
	at := 0
	for at < len(lines) && at < len(others) && lines[at] == others[at] {
		at++
	}
	return fmt.Sprintf("%d lines, from %d on\n%s", len(lines), at, strings.Join(lines[max(0, min(at-2, len(lines))):min(at+6, len(lines))], "\n"))
}

// share counts statements and those that were accepted.
type share struct{ all, accepted int }

func (s *share) add(ok bool) {
	if s.all++; ok {
		s.accepted++
	}
}

func (s *share) String() string {
	return fmt.Sprintf("%d of %d accepted (%.0f %%)", s.accepted, s.all, 100*float64(s.accepted)/float64(max(s.all, 1)))
}

// measure gives what the statements are made from, and how long.
func measure(t *testing.T, lasts time.Duration) (uint64, time.Duration) {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("TASKGATE_TEST_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("TASKGATE_TEST_TIME"); s != "" {
		var err error
		if lasts, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	return seed, lasts
}

// TestPM01NonInterference: whatever a client sends, what it gets is the same
// byte for byte whatever protected values, unlisted columns and unlisted tables
// hold.
func TestPM01NonInterference(t *testing.T) {
	t.Parallel()
	seed, lasts := measure(t, 2*time.Minute) // as far as a machine gets in that time
	w := newTwins(t, 10)
	w.apart(t, seed)
	var control share
	total, touching := make([]share, len(twinTasks)), make([]share, len(twinTasks))
	byKind, forms, codes := map[string]*share{}, map[string]*share{}, map[string]int{}
	probe := make([]int, len(twinTasks))
	differences := 0
	end := time.Now().Add(lasts)
rounds:
	for round := 0; (time.Now().Before(end) || total[len(total)-1].all < 300) && differences < 5; round++ {
		at := round % len(twinTasks)
		task := twinTasks[at].name
		g := sqlgen.New(rand.New(rand.NewPCG(seed, uint64(round)+7)), pgtest.Major(), twinTasks[at].blind, probe[at])
		w.reset(t, seed, round)
		p := w.open(t, task)
		var steps []*sqlgen.Step
		for wrote := 0; len(steps) < 60 && wrote <= most; {
			s := g.Step(p.conn[0].status != 'I', p.conn[0].status == 'E')
			steps, probe[at] = append(steps, s), g.Next()
			failed := p.conn[0].status == 'E'
			out := p.run(s)
			if tell(out) {
				p.close()
				found := w.shrink(t, seed, round, task, steps)
				if at, again := w.differ(t, seed, round, task, found); at >= 0 {
					steps, out = found, again
				}
				for _, s := range steps {
					t.Log(s)
				}
				t.Errorf("TASKGATE_TEST_SEED=%d, round %d, task %s, %d steps:\none side\n%s\nthe other\n%s", seed, round, task, len(steps), around(out[0].text, out[1].text), around(out[1].text, out[0].text))
				differences++
				continue rounds
			}
			if wrote += out[0].wrote; strings.Contains(s.Text, "UPDATE grp") || strings.Contains(s.Text, "INTO grp") { // cascades
				wrote += most / 2
			}
			if out[0].ended {
				break
			}
			ok := out[0].accepted()
			for _, code := range out[0].codes {
				codes[code]++
			}
			if !s.Judged {
				control.add(ok)
				continue
			}
			if failed { // whatever it is, it is not looked at
				continue
			}
			total[at].add(ok)
			if s.Touches {
				touching[at].add(ok)
			}
			for m, k := range map[*map[string]*share]string{&byKind: s.Kind, &forms: s.Form} {
				if (*m)[k] == nil {
					(*m)[k] = &share{}
				}
				(*m)[k].add(ok)
			}
		}
		p.close()
	}
	for i, task := range twinTasks {
		t.Logf("seed %d on server %d, %s: %v; of those that touch protected columns %v", seed, pgtest.Major(), task.name, &total[i], &touching[i])
		if total[i].accepted*task.share < total[i].all || touching[i].accepted*task.share < touching[i].all {
			t.Errorf("%s: %v, %v: too few to prove anything", task.name, &total[i], &touching[i])
		}
	}
	t.Logf("%d of transactions beside them", control.all)
	for _, m := range []map[string]*share{byKind, forms} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			t.Logf("%-10s %v", k, m[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(codes)) {
		t.Logf("%s %d", k, codes[k])
	}
	w.gateway.written(t, func(path string, b []byte) {
		if bytes.Contains(b, []byte(sqlgen.Marker)) {
			t.Errorf("%s holds a protected value", path)
		}
	})
}
