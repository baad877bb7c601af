//go:build linux && amd64

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/devidp"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/internal/pgtest"
)

// act is one command of a run, found again by its mark in the database, the
// log and the recording.
type act struct {
	mark string
	told bool // its client was told that it is done
}

// talk is what a client does in a run. It gives up at the first error.
type talk func(f *faulty, c *pgconn.PgConn, mark string) []act

// talks are the ways of a command through the gateway.
var talks = map[string]talk{
	"a read": func(f *faulty, c *pgconn.PgConn, mark string) []act {
		return f.each(c, mark, "select m from marks where m = '%s'")
	},
	"a write": func(f *faulty, c *pgconn.PgConn, mark string) []act {
		return f.each(c, mark, "insert into marks (m) values ('%s')")
	},
	"a write, prepared": func(f *faulty, c *pgconn.PgConn, mark string) []act {
		_, err := c.ExecParams(f.ctx, "insert into marks (m) values ($1)", [][]byte{[]byte(mark)}, nil, nil, nil).Close()
		return []act{{mark, err == nil}}
	},
	"a write without Sync": func(f *faulty, c *pgconn.PgConn, mark string) []act {
		fe := c.Frontend() // it is never committed
		sendInsert(fe, mark)
		if fe.Flush() == nil {
			for n := 0; n < 3; n++ {
				if _, err := c.ReceiveMessage(f.ctx); err != nil {
					break
				}
			}
		}
		return []act{{mark, false}}
	},
	"a limited write": func(f *faulty, c *pgconn.PgConn, mark string) []act {
		return f.each(c, mark, "update marks set note = '%s' where m = 'seed'")
	},
	"a transaction": func(f *faulty, c *pgconn.PgConn, mark string) []act {
		done := true
		for _, text := range []string{"begin", "insert into marks (m) values ('" + mark + "')", "commit"} {
			if _, err := c.Exec(f.ctx, text).ReadAll(); err != nil {
				done = false
				break
			}
		}
		return []act{{mark, done}}
	},
	"COPY": func(f *faulty, c *pgconn.PgConn, mark string) []act {
		_, err := c.CopyFrom(f.ctx, strings.NewReader(mark+"\n"), "copy marks (m) from stdin /* "+mark+" */")
		return []act{{mark, err == nil}}
	},
	newSegment: func(f *faulty, c *pgconn.PgConn, mark string) []act {
		return f.each(c, mark, "insert into marks (m, note) values ('%s', '"+strings.Repeat("x", large)+"')")
	},
	"a held write": heldWrite,
	"a write" + byLoop: func(f *faulty, c *pgconn.PgConn, mark string) []act {
		return f.each(c, mark, "insert into marks (m) values ('%s')")
	},
	"a held write" + byLoop: heldWrite,
}

func heldWrite(f *faulty, c *pgconn.PgConn, mark string) []act {
	return []act{{mark, f.held(c, "delete from marks where m = '"+mark+"'", mark)}}
}

// byLoop is said of what a loop carries, where it is killed around each call in
// which it tells the kernel what to read and send. All else is carried by two
// goroutines, whose calls name what they do.
const byLoop = ", carried by a loop"

// newSegment is a write whose record has no room in the log's segment.
const (
	newSegment = "a write into a new segment"
	large      = 500 << 10
)

// fill fills the segment at hand until a large text has no more room in it.
func (f *faulty) fill(c *pgconn.PgConn) {
	f.Helper()
	const until, most = 16<<20 - 2*large, 2*large + 8<<10 // bytes: what a text adds, with its canonical form
	for i, at := 0, 0; at < until; {
		for range max(1, (until-at)/most) {
			if _, err := c.Exec(f.ctx, fmt.Sprintf("select m from marks where m = '%d%s'", i, strings.Repeat("x", large))).ReadAll(); err != nil {
				f.Fatal(err)
			}
			i++
		}
		if err := audit.Read(filepath.Join(f.dir, "data", "audit"), func(r audit.Record) error { at = r.Offset + len(r.Payload); return nil }); err != nil {
			f.Fatal(err)
		}
	}
}

// failures are how a point can fail, beside kill -9.
var failures = map[string]map[string]syscall.Errno{
	"read client": {"read error": syscall.EIO}, "read upstream": {"read error": syscall.EIO},
	"write client": {"write error": syscall.EIO}, "write upstream": {"write error": syscall.EIO},
	"write recording": {"write error": syscall.EIO, "disk full": syscall.ENOSPC},
	"fdatasync audit": {"fsync error": syscall.EIO}, "fsync audit": {"fsync error": syscall.EIO},
	"allocate audit": {"disk full": syscall.ENOSPC}, "cut audit": {"write error": syscall.EIO},
	"write store": {"write error": syscall.EIO, "disk full": syscall.ENOSPC}, "fsync store": {"fsync error": syscall.EIO}, "fdatasync store": {"fsync error": syscall.EIO},
	"lock store": {"store locked": syscall.EAGAIN},
}

// settling are the points behind which something has become so.
var settling = []string{"read client", "read upstream", "write upstream", "fdatasync audit", "enter loop"}

const faultsTask = `
task: app
resources: [shop]
allow:
  - {verbs: [select, insert], tables: [public.marks], columns: [m, note]}
  - {verbs: [update], tables: [public.marks], columns: [note], where: required, rows: 5}
review:
  - {verbs: [delete], tables: [public.marks], where: required, by: {groups: [dba], people: 1, within: 15m}}
`

// each is after how many runs there is a new log: a gateway that was killed
// leaves a whole segment, and all are read again each time.
const each = 4

// faulty is a gateway that is stopped in every way, and what is left of it.
type faulty struct {
	*testing.T
	ctx      context.Context
	pg       *pgtest.Server
	idp      *devidp.Provider
	dir      string
	control  string // bob's token
	api, db  string // addresses of the gateway that runs
	database string
	boss     *pgconn.PgConn // the database's superuser
	runs     int
	waits    []string // marks of what was held and has not run
	log      bytes.Buffer

	tracer *exec.Cmd
	pid    int // of the gateway that runs, or 0
	loop   bool
	in     io.WriteCloser
	events chan string
	met    []string
	fired  bool
}

// TestFaults stops the gateway at every system call between receiving a command
// and answering it, by kill -9 and by every error that the call can give, and
// holds what the database has, what the log says and what the recording says
// against each other. docs/durability.md is what came of it.
func TestFaults(t *testing.T) {
	t.Parallel()
	pg, err := pgtest.Start(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Stop() })
	names := slices.Sorted(maps.Keys(talks))
	for i := range names {
		if err := pg.Database(fmt.Sprintf("shop%d", i), "create table marks (m text, note text); insert into marks values ('seed', '');"); err != nil {
			t.Fatal(err)
		}
	}
	guard, modules := built(t)
	m := readFaults(t)
	t.Run("all", func(t *testing.T) { // so that they are over before the server stops
		for i, name := range names {
			t.Run(name, func(t *testing.T) { // each with a gateway and a database of its own
				t.Parallel()
				f := newFaulty(t, pg, guard, modules, fmt.Sprintf("shop%d", i))
				f.all(name, m)
				f.start() // the last one's recovery
				f.end(syscall.SIGTERM)
				if n := len(f.waits); n > 0 && f.sql("select count(*) from marks where m in ("+strings.Join(f.waits, ", ")+")") != fmt.Sprint(n) {
					t.Error("something that was held has run after a fault")
				}
			})
		}
	})
	m.settle(t)
}

func newFaulty(t *testing.T, pg *pgtest.Server, guard, modules, database string) *faulty {
	f := &faulty{T: t, ctx: t.Context(), pg: pg, dir: t.TempDir(), database: database, idp: &devidp.Provider{ClientID: "taskgate"}}
	f.idp.SetUsers(map[string]devidp.User{"bob": {Password: "x", Groups: []string{"dba"}}})
	l, issuer, err := f.idp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if f.pid != 0 {
			_ = syscall.Kill(f.pid, syscall.SIGKILL)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.idp.Run(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	if f.boss, err = pgconn.Connect(f.ctx, pg.URL("postgres", database)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.boss.Close(context.Background()) })
	data := filepath.Join(f.dir, "data")
	err = errors.Join(os.Mkdir(filepath.Join(f.dir, "tasks"), 0o700), os.Mkdir(data, 0o700), os.Symlink(modules, filepath.Join(data, "modules")),
		os.WriteFile(filepath.Join(f.dir, "tasks/app.yaml"), []byte(faultsTask), 0o600), os.WriteFile(filepath.Join(f.dir, "password"), []byte(pg.Password), 0o600),
		os.WriteFile(filepath.Join(f.dir, "gateway.yaml"), fmt.Appendf(nil, `listeners:
  postgres: {address: "127.0.0.1:0", plain: true}
  api: {address: "127.0.0.1:0", plain: true}
issuers:
  - {url: %q, client_id: taskgate, may_assert: ["task:*", dba]}
resources:
  shop: {protocol: postgres, address: "localhost:%d", database: %s, ca: "file:%s", logins: {app: {user: app, password: "file:password"}}}
plugins:
  - {name: tasks, path: %q, may: [allow, deny, review, mask], isolation: shared, cache: true}
`, issuer, pg.Port, database, pg.CA, guard), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	f.start()
	f.control = f.logIn("bob")
	f.end(syscall.SIGTERM)
	return f
}

// start starts the gateway under the tracer, which waits for its order.
func (f *faulty) start() {
	f.Helper()
	f.tracer = exec.Command("tracer", "taskgate", "serve", "--grace", "1s")
	f.tracer.Dir, f.tracer.Stderr = f.dir, &f.log
	f.tracer.Env = append(os.Environ(), "TASKGATE_LISTENERS__POSTGRES__LOOP="+strconv.FormatBool(f.loop))
	f.log.Reset()
	var err error
	if f.in, err = f.tracer.StdinPipe(); err != nil {
		f.Fatal(err)
	}
	out, err := f.tracer.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := f.tracer.Start(); err != nil {
		f.Fatal(err)
	}
	f.events, f.met, f.fired = make(chan string, 1<<16), nil, false
	go func(to chan<- string) { // ends with the tracer
		for s := bufio.NewScanner(out); s.Scan(); {
			to <- s.Text()
		}
		close(to)
	}(f.events)
	var addresses map[string]string
	for e := range f.events {
		if json.Unmarshal([]byte(e), &addresses) == nil {
			f.api, f.db = addresses["api"], addresses["postgres"]
			return
		}
		_, _ = fmt.Sscanf(e, "pid %d", &f.pid)
	}
	f.Fatalf("the gateway does not start: %s", f.log.String())
}

// end ends the gateway and reads what the tracer had to say.
func (f *faulty) end(sig syscall.Signal) {
	f.Helper()
	_ = f.in.Close()
	f.signal(sig)
	f.rest()
	_ = f.tracer.Wait()
	f.pid = 0
}

func (f *faulty) signal(sig syscall.Signal) {
	kids, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", f.tracer.Process.Pid))
	for _, k := range kids {
		b, _ := os.ReadFile(k)
		for _, pid := range strings.Fields(string(b)) {
			var n int
			if _, err := fmt.Sscan(pid, &n); err == nil {
				_ = syscall.Kill(n, sig)
			}
		}
	}
}

// rest reads what the tracer says until the gateway is gone.
func (f *faulty) rest() {
	for e := range f.events {
		f.hear(e)
	}
}

func (f *faulty) hear(e string) {
	if p, ok := strings.CutPrefix(e, "met "); ok {
		f.met = append(f.met, p)
	}
	f.fired = f.fired || e == "fired"
}

// all is every fault of one way of a command.
func (f *faulty) all(name string, m *faultMatrix) {
	f.loop = strings.HasSuffix(name, byLoop)
	f.one(name, "no fault", order{}, m)
	count := map[string]int{}
	var keys []string
	for _, p := range f.met {
		if count[p]++; count[p] == 1 {
			keys = append(keys, p)
		}
	}
	for _, point := range keys {
		if name == newSegment && !strings.HasSuffix(point, " audit") || f.loop && point != "enter loop" {
			continue // as of any write
		}
		n := count[point]
		nths := []int{1}
		if n > 1 {
			nths = append(nths, n)
		}
		if n > 4 {
			nths = []int{1, 1 + n/2, n}
		}
		for _, nth := range nths {
			if !strings.HasPrefix(point, "read ") && !strings.HasPrefix(point, "lock ") {
				f.one(name, "kill -9 before", order{Point: point, Nth: nth}, m)
			}
			if slices.Contains(settling, point) {
				f.one(name, "kill -9 after", order{Point: point, Nth: nth, After: true}, m)
			}
			for how, errno := range failures[point] {
				f.one(name, how, order{Point: point, Nth: nth, Errno: errno}, m)
			}
		}
		if !m.reached[name+"|"+point] {
			f.Errorf("%s: %s was never reached", name, point)
		}
	}
}

// one is one run: a gateway is started on what the last one left, meets the
// fault, and what is left of it has to agree.
func (f *faulty) one(name, how string, o order, m *faultMatrix) {
	f.Helper()
	f.runs++
	mark, who := fmt.Sprintf("mark%d.%s", f.runs, f.database), fmt.Sprintf("%d in %s", f.runs, f.database)
	what := fmt.Sprintf("%s: %s %s %d", name, how, o.Point, o.Nth)
	held := strings.HasPrefix(name, "a held write")
	if held {
		f.sql("insert into marks values ('" + mark + "')")
	}
	if f.runs%each == 0 {
		if err := os.RemoveAll(filepath.Join(f.dir, "data", "audit")); err != nil {
			f.Fatal(err)
		}
	}
	f.start()
	token, err := f.idp.Token("ada", []string{"task:app"})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(f.ctx, 5*time.Minute)
	defer cancel()
	f.ctx = ctx
	defer func() { f.ctx = f.Context() }()
	c, err := pgconn.Connect(ctx, "postgres://app:"+token+"@"+f.db+"/shop?sslmode=disable")
	if err != nil {
		f.Fatalf("%s: %v\n%s", what, err, f.log.String())
	}
	if _, err := c.Exec(ctx, "select 'who "+who+"'").ReadAll(); err != nil {
		f.Fatalf("%s: %v", what, err)
	}
	port := f.sql("select client_port::text from pg_stat_activity where query like '%who " + who + "%' and pid <> pg_backend_pid()")
	_, local, _ := net.SplitHostPort(f.db)
	o.Names = map[string]string{"local " + local: "client", "local " + port: "upstream"}
	if held && f.call("GET", "/v1/approvals", "", nil) != nil { // a refresh token that was used and could not be kept ends its login
		f.control = f.logIn("bob")
	}
	if name == newSegment {
		f.fill(c)
	}
	if err := o.arm(f.in); err != nil {
		f.Fatal(err)
	}
	for e := range f.events {
		if f.hear(e); e == "armed" {
			break
		}
	}
	acts := talks[name](f, c, mark)
	if name == "a write without Sync" {
		_ = c.Conn().Close()
	}
	f.lull(c, o)
	if o.Errno != 0 {
		f.end(syscall.SIGTERM)
	} else {
		f.end(syscall.SIGKILL)
	}
	_ = c.Conn().Close()
	for f.sql("select count(*) from pg_stat_activity where datname = '"+f.database+"' and usename = 'app'") != "0" { // what it was given it carries out
		time.Sleep(5 * time.Millisecond)
	}
	if o.Point != "" && f.fired {
		m.reach(name, o.Point)
	}
	for _, a := range acts {
		ran := f.sql("select count(*) from marks where m = '"+a.mark+"' or note = '"+a.mark+"'") != "0"
		if held {
			ran = !ran
		}
		read := name == "a read" // of which the server keeps nothing
		ran = ran || read && a.told
		f.agree(what, a, ran, read, how)
		if o.Point == "" || f.fired {
			m.saw(f.T, name, o.Point, how, ran)
		}
		if held && !ran {
			f.waits = append(f.waits, "'"+a.mark+"'")
		}
		if o.Point == "" && name != "a write without Sync" && !(ran && a.told) {
			f.Errorf("%s: it does not run without a fault either", what)
		}
	}
}

// lull waits until what belongs to a command has been done: its recording is
// written every 50 ms, and the log synced.
func (f *faulty) lull(c *pgconn.PgConn, o order) {
	quiet := time.NewTicker(150 * time.Millisecond)
	defer quiet.Stop()
	for waits := 0; ; {
		select {
		case e, more := <-f.events:
			if !more {
				return
			}
			f.hear(e)
			if e == "fired" && o.Errno == 0 {
				return
			}
		case <-quiet.C: // a machine may be busy
			waits++
			if waits == 100 || o.Point != "" || slices.Contains(f.met, "write recording") && slices.Contains(f.met, "fdatasync audit") {
				return
			}
		}
	}
}

// agree holds what ran, what the log says and what the recording says against
// each other.
func (f *faulty) agree(what string, a act, ran, read bool, how string) {
	f.Helper()
	dir := filepath.Join(f.dir, "data")
	if rep, err := audit.Verify(filepath.Join(dir, "audit"), "", ""); err != nil || len(rep.Torn) > 0 {
		f.Errorf("%s: the log: %+v %v", what, rep, err)
	}
	log := saying{mark: a.mark}
	if err := audit.Read(filepath.Join(dir, "audit"), func(r audit.Record) error {
		e, err := gate.ReadEvent(r.Payload)
		if err == nil {
			log.hear(e)
		}
		return err
	}); err != nil {
		f.Errorf("%s: %v", what, err)
	}
	said := saying{mark: a.mark}
	if log.session != "" {
		path, err := record.Path(filepath.Join(dir, "recordings"), log.session)
		if err == nil {
			err = record.Read(path, func(e *gate.Event) error { said.hear(e); return nil })
		}
		if err != nil && !errors.Is(err, record.ErrTorn) {
			f.Errorf("%s: the recording: %v", what, err)
		}
	}
	switch {
	case ran && !log.allowed:
		f.Errorf("%s: it ran, and is not in the log", what)
	case log.state == "done" && !ran && !read:
		f.Errorf("%s: the log says that it was done, and it was not", what)
	case log.state == "undone" && ran:
		f.Errorf("%s: the log says that it was not done, and it was", what)
	case a.told && !ran:
		f.Errorf("%s: the client was told that it was done, and it was not", what)
	case said.allowed && !log.allowed, said.state != "" && said.state != log.state:
		f.Errorf("%s: the recording says %q, and the log %q", what, said.state, log.state)
	case ran && !said.allowed && !strings.HasPrefix(how, "kill"):
		if !strings.HasPrefix(how, "write error") && how != "disk full" { // of the recording itself
			f.Errorf("%s: it ran, and is not in the recording", what)
		}
	}
}

// saying is what a log says of the command with a mark.
type saying struct {
	mark    string
	session string
	digests map[string]bool
	command uint64
	allowed bool
	state   string // done, undone, or "" for what is not known
}

func (s *saying) hear(e *gate.Event) {
	switch e.Kind {
	case gate.EventText:
		if strings.Contains(e.Text, s.mark) || strings.Contains(e.Text, "$1") {
			if s.digests == nil {
				s.digests = map[string]bool{}
			}
			s.digests[e.Session+e.Digest] = true
		}
	case gate.EventCommand:
		if !s.digests[e.Session+e.Digest] || e.Phase != "execute" || len(e.Params) > 0 && !strings.Contains(e.Params[0], s.mark) {
			return
		}
		if e.Decision == "allow" || len(e.Voices) > 0 {
			s.session, s.command, s.allowed, s.state = e.Session, e.Command, true, ""
		} else if s.session == "" {
			s.session = e.Session
		}
	case gate.EventDone:
		if !s.allowed || e.Session != s.session {
			return
		}
		if e.Command == s.command {
			s.state = map[string]string{"completed": "done", "failed": "undone", "skipped": "undone"}[e.State]
		}
		if e.Settles != "" && e.First <= s.command && s.command <= e.Last {
			s.state = map[string]string{"committed": "done", "rolled back": "undone"}[e.Settles]
		}
	}
}

func (f *faulty) each(c *pgconn.PgConn, mark, format string) []act {
	_, err := c.Exec(f.ctx, fmt.Sprintf(format, mark)).ReadAll()
	return []act{{mark, err == nil}}
}

func (f *faulty) sql(text string) string {
	f.Helper()
	all, err := f.boss.Exec(f.Context(), text).ReadAll()
	if err != nil {
		f.Fatal(err)
	}
	if len(all[0].Rows) == 0 {
		return ""
	}
	return string(all[0].Rows[0][0])
}

// held runs a text that is held, and has bob approve it. A client that nobody
// can decide about any more leaves.
func (f *faulty) held(c *pgconn.PgConn, text, mark string) bool {
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(f.ctx, text).ReadAll()
		done <- err
	}()
	if err := f.approve(mark, done); err != nil {
		_ = c.Conn().Close()
		<-done
		return false
	}
	return <-done == nil
}

func (f *faulty) approve(mark string, done chan error) error {
	for {
		select {
		case err := <-done: // it is over before anybody could say anything
			done <- err
			return nil
		default:
		}
		var list struct {
			Requests []struct{ ID, Text string }
		}
		if err := f.call("GET", "/v1/approvals", "", &list); err != nil {
			return err
		}
		for _, r := range list.Requests {
			if !strings.Contains(r.Text, mark) {
				continue
			}
			var card struct{ Code string }
			if err := f.call("GET", "/v1/approvals/"+r.ID, "", &card); err != nil {
				return err
			}
			return f.call("POST", "/v1/approvals/"+r.ID, `{"decision": "approve", "reason": "ok", "code": "`+card.Code+`"}`, nil)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// call asks the gateway's API as bob.
func (f *faulty) call(method, path, body string, into any) error {
	req, err := http.NewRequestWithContext(f.ctx, method, "http://"+f.api+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if f.control != "" {
		req.Header.Set("Authorization", "Bearer "+f.control)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%s: %d %s", path, resp.StatusCode, b)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(b, into)
	}
	return err
}

// logIn logs somebody in to decide, and gives the token.
func (f *faulty) logIn(user string) string {
	f.Helper()
	var d struct{ ID, URL, Code string }
	err := f.call("POST", "/v1/login", `{"for": "control"}`, &d)
	if err == nil {
		err = devidp.Confirm(f.ctx, d.URL, d.Code, user, "x")
	}
	var got struct{ Token string }
	for err == nil && got.Token == "" {
		err = f.call("POST", "/v1/login/wait", `{"id": "`+d.ID+`"}`, &got)
		if err != nil && strings.Contains(err.Error(), ": 202 ") {
			err = nil
		}
	}
	if err != nil {
		f.Fatal(err)
	}
	return got.Token
}
