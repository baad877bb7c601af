package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

func anything(c *abi.Command) bool { return c.Statement.Incomplete == "" }

// recorded keeps what passes between the gateway and a server that is reached
// without TLS.
type recorded struct {
	plainDialer
	mu         sync.Mutex
	down, sent bytes.Buffer
}

func (r *recorded) Dial(ctx context.Context, res *gate.Resource, login string) (gate.Upstream, error) {
	up, err := r.plainDialer.Dial(ctx, res, login)
	up.Conn = tapped{up.Conn, r}
	return up, err
}

type tapped struct {
	net.Conn
	r *recorded
}

func (t tapped) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.r.down.Write(b[:n])
	return n, err
}

func (t tapped) Write(b []byte) (int, error) {
	t.r.mu.Lock()
	t.r.sent.Write(b)
	t.r.mu.Unlock()
	return t.Conn.Write(b)
}

func (t tapped) CloseWrite() error { return t.Conn.(*net.TCPConn).CloseWrite() }

// TestPW11CancelKeys: the key that a client gets is the gateway's own, as long
// as its protocol allows, another one each time, and no use at the server.
func TestPW11CancelKeys(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	tap := &recorded{plainDialer: plainDialer{server.Addr(), "app", g.db}}
	g.Dialer = tap
	seen := map[string]bool{}
	for _, version := range []string{v30, "\x00\x03\x00\x02", v30} {
		nc := g.raw(t, packet(version+"user\x00x\x00database\x00shop\x00\x00"))
		var key string
		for ready := false; !ready; {
			kind, body, err := readMessage(nc)
			if err != nil {
				t.Fatal(err)
			}
			switch kind {
			case 'R':
				if binary.BigEndian.Uint32(body) == 3 {
					_, _ = nc.Write(frame('p', []byte("token\x00")))
				}
			case 'K':
				key = string(body)
			case 'Z':
				ready = true
			}
		}
		want := 8
		if version != v30 {
			want = 36
		}
		if len(key) != want || seen[key] {
			t.Errorf("a key of %d bytes, want %d, %v", len(key), want, seen[key])
		}
		seen[key] = true
		tap.mu.Lock()
		down := tap.down.String()
		tap.mu.Unlock()
		if strings.Contains(down, key) || strings.Contains(down, key[:4]+"\x00") {
			t.Error("the key is the server's")
		}
		// At the server it cancels nothing.
		if _, err := nc.Write(query("select 1 from pg_sleep(0.3)")); err != nil {
			t.Fatal(err)
		}
		direct, err := net.Dial("tcp", server.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = direct.Write(packet("\x04\xd2\x16\x2e" + key))
		_, _ = io.Copy(io.Discard, direct)
		direct.Close()
		if got := kinds(t, nc, 1); got != "T D C ZI" {
			t.Errorf("the key works at the server: %s", got)
		}
	}
}

// TestPW17Coalesced: everything in one write, from the first byte on: startup,
// password, commands and goodbye.
func TestPW17Coalesced(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	all := join(packet(v30+"user\x00x\x00database\x00shop\x00\x00"), frame('p', []byte("token\x00")))
	want := ""
	for name, c := range conversations {
		if strings.Contains(name, "COPY") || strings.Contains(name, "copy") || strings.Contains(name, " name") { // its names would meet again
			continue
		}
		all = append(all, c.send...)
		all = append(all, query("deallocate all")...)
		want += c.want + " C ZI "
	}
	nc := g.raw(t, join(all, frame('X', nil)))
	var got []string
	in := false
	for {
		kind, body, err := readMessage(nc)
		if err != nil {
			break
		}
		switch {
		case !in:
			in = kind == 'Z'
		case kind == 'Z':
			got = append(got, "Z"+string(body))
		case kind == 'E':
			_, code, _ := strings.Cut("\x00"+string(body), "\x00C")
			got = append(got, "E"+code[:5])
		case kind != 'N' && kind != 'S':
			got = append(got, string(kind))
		}
	}
	if g := strings.Join(got, " ") + " "; g != want {
		t.Errorf("\n got %s\nwant %s", g, want)
	}
}

// TestPW23FlushWhileJudging: what was asked for with a Flush is answered while
// the next command still waits for its verdict, and a client that leaves
// meanwhile is noticed.
func TestPW23FlushWhileJudging(t *testing.T) {
	release := make(chan struct{})
	g := serve(t, &rules{allow: func(c *abi.Command) bool {
		if strings.Contains(c.Statement.Text, "slow") {
			<-release
		}
		return true
	}})
	nc := g.in(t)
	flush := frame('H', nil)
	if _, err := nc.Write(join(parseMsg("", "select 1"), bindMsg("", ""), executeMsg(""), flush, parseMsg("", "select 'slow'"), bindMsg("", ""), executeMsg(""), flush)); err != nil {
		t.Fatal(err)
	}
	read := func(want string) {
		t.Helper()
		got := ""
		for len(got) < len(want) {
			kind, _, err := readMessage(nc)
			if err != nil {
				t.Fatalf("%q of %q: %v", got, want, err)
			}
			got += string(kind)
		}
		if got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	read("12DC") // no Sync has come, and the second command has no verdict
	close(release)
	read("12DC")
	if _, err := nc.Write(join(parseMsg("", "select 'more'"), flush, flush, bindMsg("", ""), flush, executeMsg(""), flush)); err != nil {
		t.Fatal(err)
	}
	read("12DC")
	if _, err := nc.Write(sync_()); err != nil {
		t.Fatal(err)
	}
	read("Z")
}

// TestPW26BindCounts: counts and formats that do not fit are errors as at the
// server; what fits is shown to the guard as it is.
func TestPW26BindCounts(t *testing.T) {
	var mu sync.Mutex
	var seen []abi.Param
	g := serve(t, &rules{allow: func(c *abi.Command) bool {
		mu.Lock()
		defer mu.Unlock()
		if c.Phase == abi.Execute {
			seen = nil
			for _, p := range c.Params {
				seen = append(seen, abi.Param{Null: p.Null, Binary: p.Binary, Value: bytes.Clone(p.Value)})
			}
		}
		return true
	}})
	p2 := parseTyped("", "select $1::int4, $2::text", 23, 25)
	converseWith(t, g, map[string]conversation{
		"too few":                 {join(p2, bindValues("", "", nil, []string{"1"}, nil), executeMsg(""), sync_()), 1, "1 E08P01 ZI"},
		"too many":                {join(p2, bindValues("", "", nil, []string{"1", "2", "3"}, nil), sync_()), 1, "1 E08P01 ZI"},
		"none":                    {join(p2, bindValues("", "", nil, nil, nil), sync_()), 1, "1 E08P01 ZI"},
		"formats that do not fit": {join(p2, bindValues("", "", []uint16{0, 0, 0}, []string{"1", "2"}, nil), sync_()), 1, "1 E08P01 ZI"},
		"an unknown format":       {join(p2, bindValues("", "", []uint16{7}, []string{"1", "2"}, nil), sync_()), 1, "1 E22023 ZI"},
		"an unknown result":       {join(p2, bindValues("", "", nil, []string{"1", "2"}, []uint16{9}), executeMsg(""), sync_()), 1, "1 2 E22023 ZI"},
		"results that do not fit": {join(p2, bindValues("", "", nil, []string{"1", "2"}, []uint16{0, 0, 0}), sync_()), 1, "1 E08P01 ZI"},
		"binary of a wrong size":  {join(p2, bindValues("", "", []uint16{1, 0}, []string{"abc", "2"}, nil), sync_()), 1, "1 E08P01 ZI"},
		"no number":               {join(p2, bindValues("", "", nil, []string{"abc", "2"}, nil), sync_()), 1, "1 E22P02 ZI"},
		"a zero byte":             {join(p2, bindValues("", "", nil, []string{"1", "a\x00b"}, nil), sync_()), 1, "1 E22021 ZI"},
		"bytes that are no UTF-8": {join(p2, bindValues("", "", nil, []string{"1", "\xff"}, nil), sync_()), 1, "1 E22021 ZI"},
		"it fits":                 {join(p2, bindValues("", "", []uint16{1, 0}, []string{"\x00\x00\x00\x05", "NULL"}, []uint16{1}), executeMsg(""), sync_()), 1, "1 2 D C ZI"},
	})
	nc := g.in(t)
	if _, err := nc.Write(join(p2, bindValues("", "", []uint16{1, 0}, []string{"\x00\x00\x00\x05", "NULL"}, []uint16{1}), executeMsg(""), sync_())); err != nil {
		t.Fatal(err)
	}
	kinds(t, nc, 1)
	mu.Lock()
	if len(seen) != 2 || !seen[0].Binary || string(seen[0].Value) != "\x00\x00\x00\x05" || !seen[1].Null || seen[1].Binary {
		t.Errorf("the guard saw %+v", seen)
	}
	mu.Unlock()
	// As many as the protocol can count, and one that is large.
	c := g.connect(t)
	values := make([]any, 1000)
	var text strings.Builder
	text.WriteString("select 1 where 7 in (")
	for i := range values {
		values[i] = i
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, "$%d::int", i+1)
	}
	text.WriteByte(')')
	var one int
	if err := c.QueryRow(t.Context(), text.String(), append([]any{pgx.QueryExecModeExec}, values...)...).Scan(&one); err != nil {
		t.Error(err)
	}
	mu.Lock()
	if len(seen) != len(values) || string(seen[999].Value) != "999" {
		t.Errorf("the guard saw %d of %d", len(seen), len(values))
	}
	mu.Unlock()
	many := make([]string, 65535)
	for i := range many {
		many[i] = "1"
	}
	nc = g.in(t)
	if _, err := nc.Write(join(parseMsg("", "select $1::int"), bindValues("", "", nil, many, nil), sync_())); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, nc, 1); got != "1 E08P01 ZI" {
		t.Error(got)
	}
	big := strings.Repeat("x", 20<<20)
	if err := c.QueryRow(t.Context(), "select length($1::text)", big).Scan(&one); err != nil || one != len(big) {
		t.Error(one, err)
	}
	if _, err := c.Exec(t.Context(), "select length($1::text)", strings.Repeat("x", maxBind)); err == nil {
		t.Error("there is no bound")
	}
}

// converseWith runs conversations through a gateway that is there already.
func converseWith(t *testing.T, g *gateway, list map[string]conversation) {
	t.Helper()
	for name, c := range list {
		nc := g.in(t)
		if _, err := nc.Write(c.send); err != nil {
			t.Fatal(err)
		}
		if got := kinds(t, nc, c.ready); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
		nc.Close()
	}
}

// TestPW33ParametersWatched: a setting that the reading of texts stands on
// cannot be moved, by whatever way; where a function moves it the session ends
// before another text is read.
func TestPW33ParametersWatched(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for _, text := range []string{"set standard_conforming_strings = off", "set client_encoding = 'SJIS'", "set names 'latin1'", "set role owner", "set session authorization owner", "set local role owner",
		"select set_config('client_encoding', 'SJIS', false)", "set session_replication_role = replica", "set backslash_quote = on", "set transform_null_equals = on", "set search_path = pg_temp, public"} {
		if out := g.psql(t, text+";\nselect 'goes on';\n"); !strings.Contains(out, "ERROR") || !strings.Contains(out, "goes on") {
			t.Errorf("%s: %s", text, out)
		}
	}
	if out, err := server.Psql(g.db, `CREATE FUNCTION shift(text, text) RETURNS text LANGUAGE sql AS 'select set_config($1, $2, false)'; GRANT owner TO app;`); err != nil {
		t.Fatal(err, out)
	}
	defer func() { _, _ = server.Psql("postgres", "REVOKE owner FROM app") }()
	open := serve(t, &rules{allow: anything})
	open.Dialer = dialer{database: g.db}
	for _, s := range [][2]string{{"standard_conforming_strings", "off"}, {"client_encoding", "SJIS"}, {"client_encoding", "GBK"}, {"client_encoding", "BIG5"}, {"client_encoding", "SQL_ASCII"}, {"client_encoding", "LATIN1"}} {
		c := open.connectAs(t, "app")
		_, err := c.Exec(t.Context(), fmt.Sprintf("select shift('%s', '%s')", s[0], s[1]))
		if _, next := c.Exec(t.Context(), "select 1"); err == nil && next == nil {
			t.Errorf("%s = %s: the session goes on", s[0], s[1])
		}
	}
	// Whose session it is, which the server tells where it concerns a superuser.
	open.Dialer = plainDialer{server.Addr(), "postgres", g.db}
	for _, s := range [][2]string{{"session_authorization", "app"}, {"role", "app"}} {
		c := open.connectAs(t, s[0])
		_, err := c.Exec(t.Context(), fmt.Sprintf("select shift('%s', '%s')", s[0], s[1]))
		if _, next := c.Exec(t.Context(), "select 1"); err == nil && next == nil {
			t.Errorf("%s = %s: the session goes on", s[0], s[1])
		}
	}
}

// connectAs lets a privileged login in, for which anything is allowed.
func (g *gateway) connectAs(t *testing.T, login string) *pgx.Conn {
	t.Helper()
	next := generation(&rules{allow: anything})
	next.Tasks["x"].Login, next.Resources["shop"].Options = login, &ResourceOptions{Privileged: map[string]bool{login: true}}
	g.Swap(next)
	return g.connect(t)
}

// TestPW34Encodings: bytes that another encoding would read as a character with
// a backslash or quote in it cannot move where a string ends.
func TestPW34Encodings(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for _, encoding := range []string{"SJIS", "GBK", "BIG5", "GB18030", "UHC", "JOHAB", "SHIFT_JIS_2004", "LATIN1", "SQL_ASCII", "utf8x"} {
		c, err := pgx.Connect(t.Context(), g.url()+"&client_encoding="+encoding)
		if err == nil {
			_ = c.Close(t.Context())
		}
		if code(err) != "42501" {
			t.Errorf("%s at connect: %v", encoding, err)
		}
		if out := g.psql(t, "set client_encoding = '"+encoding+"';\nset names '"+encoding+"';\nshow client_encoding;\n"); strings.Count(out, "ERROR") != 2 || !strings.Contains(out, "UTF8") {
			t.Errorf("%s: %s", encoding, out)
		}
	}
	if out := g.psql(t, "set client_encoding = 'UNICODE';\nshow client_encoding;\nset names 'Utf-8';\nshow client_encoding;\nselect 'é';\n"); !strings.Contains(out, "UNICODE\n") || !strings.Contains(out, "UTF8\n") || !strings.Contains(out, "é\n") { // psycopg2's name of it, which the server leaves as it was set
		t.Error(out)
	}
	evil := "; delete from orders; --"
	for _, head := range []string{"\x95\x5c", "\xbf\x27", "\xbf\x5c\x27", "\xa1\x5c\x27", "\xe5\x5c", "\xc0\xa7", "\xf0\x80\x80\xa7"} {
		nc := g.in(t)
		if _, err := nc.Write(join(query("select '"+head+"'"+evil+"'"), query("select E'"+head+"'"+evil+"'"), parseMsg("", "select '"+head+"'"+evil+"'"), sync_(), query("select count(*) from orders"))); err != nil {
			t.Fatal(err)
		}
		got := kinds(t, nc, 4)
		if strings.Count(got, "E") != 3 || !strings.HasSuffix(got, "T D C ZI") {
			t.Errorf("%x: %s", head, got)
		}
	}
	if out, err := server.Psql(g.db, "select count(*) from orders"); err != nil || strings.TrimSpace(out) != "200" {
		t.Error(out, err)
	}
}

// TestPW38AnotherDatabase: psql's \c is a login of its own: to what the task
// covers it works, to anything else it does not.
func TestPW38AnotherDatabase(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	next := generation(&rules{allow: noDelete})
	next.Tasks["x"].Resources = append(next.Tasks["x"].Resources, "branch")
	next.Tasks["y"] = &gate.Task{Name: "y", Groups: []string{"task:y"}, Resources: []string{"shop"}}
	next.Resources["branch"], next.Resources["vault"] = &gate.Resource{Name: "branch", Protocol: "postgres"}, &gate.Resource{Name: "vault", Protocol: "postgres"}
	g.Swap(next)
	t.Setenv("PGPASSWORD", "token") // psql does not take another user the one from the URL
	for command, want := range map[string]string{
		`\c branch`: "still here", `\c vault`: "does not cover", `\c nowhere`: "does not cover", `\c shop y`: "no such task", `\c "host=127.0.0.1 port=` + g.port + ` dbname=vault user=x"`: "does not cover",
	} {
		out := g.psql(t, "begin;\nupdate orders set status = 'moved' where id = 1;\n"+command+"\nselect 'still here';\n")
		if !strings.Contains(out, want) || want != "still here" && strings.Contains(out, "still here") {
			t.Errorf("%s: %s", command, out)
		}
	}
	g.quiet(t)
	var opened, refused int
	g.log.mu.Lock()
	for _, e := range g.log.events {
		switch e.Kind {
		case gate.EventOpen:
			opened++
		case gate.EventRefused:
			refused++
		}
	}
	g.log.mu.Unlock()
	if opened != 6 || refused != 4 {
		t.Errorf("the log has %d sessions and %d refused logins", opened, refused)
	}
	if out, err := server.Psql(g.db, "select status from orders where id = 1"); err != nil || strings.TrimSpace(out) == "moved" {
		t.Errorf("the first session's transaction has lasted: %s %v", out, err)
	}
}

// TestPW39NothingStays: every session has a server process of its own, which
// ends with it: nothing of one is met by the next.
func TestPW39NothingStays(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	before := g.connect(t)
	for _, text := range []string{"set timezone = 'Asia/Tokyo'", "set search_path = pg_catalog", "set application_name = 'the one before'", "prepare p as select 'of the one before'", "listen gossip",
		"select pg_advisory_lock(42)", "begin", "declare c cursor with hold for select 1", "commit"} {
		if _, err := before.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if _, err := before.Prepare(t.Context(), "s", "select 1"); err != nil {
		t.Fatal(err)
	}
	beside := g.connect(t)
	_ = before.Close(t.Context())
	for end := time.Now().Add(10 * time.Second); len(g.protocol.conns()) > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("its cancel key is kept")
		}
	}
	after := g.connect(t)
	for name, c := range map[string]*pgx.Conn{"beside": beside, "after": after} {
		for text, want := range map[string]string{"execute p": "26000", "fetch c": "34000", "select pg_advisory_unlock_shared(42)": "f"} {
			var got string
			err := c.QueryRow(t.Context(), text, pgx.QueryExecModeSimpleProtocol).Scan(&got)
			if got != want && code(err) != want {
				if text == "select pg_advisory_unlock_shared(42)" {
					var b bool
					if err := c.QueryRow(t.Context(), text).Scan(&b); err == nil && !b {
						continue
					}
				}
				t.Errorf("%s: %s: %q %v", name, text, got, err)
			}
		}
		for setting, not := range map[string]string{"timezone": "Asia/Tokyo", "search_path": "pg_catalog", "application_name": "the one before"} {
			var got string
			if err := c.QueryRow(t.Context(), "show "+setting).Scan(&got); err != nil || got == not {
				t.Errorf("%s: %s is %q %v", name, setting, got, err)
			}
		}
		if err := c.QueryRow(t.Context(), "s").Scan(new(int)); code(err) == "<nil>" {
			t.Errorf("%s: its prepared statement is there", name)
		}
	}
	if out, err := server.Psql(g.db, "notify gossip, 'x'; select count(*) from pg_locks where locktype = 'advisory'"); err != nil || strings.TrimSpace(out) != "0" {
		t.Error(out, err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if n, err := after.WaitForNotification(ctx); err == nil {
		t.Errorf("it hears %v", n)
	}
}

// TestPW40AlwaysBack: after a refusal a transaction can be ended, whatever the
// policy says by then, and its locks are gone.
func TestPW40AlwaysBack(t *testing.T) {
	nothing := &rules{allow: func(*abi.Command) bool { return false }}
	g := serve(t, nothing)
	for name, c := range map[string]struct{ end, tag string }{"rollback": {"rollback", "ROLLBACK"}, "abort": {"abort", "ROLLBACK"}, "commit": {"commit", "ROLLBACK"}} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec} {
			g.Swap(generation(&rules{allow: noDelete}))
			conn := g.connect(t)
			for text, want := range []string{"<nil>", "<nil>", "42501"} {
				texts := []string{"begin", "update orders set status = 'locked' where id = 1", "delete from orders"}
				if _, err := conn.Exec(t.Context(), texts[text], mode); code(err) != want {
					t.Fatalf("%s: %v", texts[text], err)
				}
			}
			if name != "commit" {
				g.Swap(generation(nothing))
			}
			tag, err := conn.Exec(t.Context(), c.end, mode)
			if err != nil || tag.String() != c.tag {
				t.Errorf("%s: %v %v", name, tag, err)
			}
			if out, err := server.Psql(g.db, "set lock_timeout = '5s'; update orders set status = 'free' where id = 1 returning status"); err != nil || !strings.Contains(out, "free") {
				t.Errorf("%s: the lock stays: %s %v", name, out, err)
			}
			_ = conn.Close(t.Context())
		}
	}
	// Only taking back passes: what stands beside it in the text is judged.
	g.Swap(generation(nothing))
	converseWith(t, g, map[string]conversation{
		"alone":           {query("rollback"), 1, "C ZI"},
		"with more":       {query("rollback; select 1"), 1, "E42501 ZI"},
		"to a savepoint":  {query("rollback to a"), 1, "E42501 ZI"},
		"commit":          {query("commit"), 1, "E42501 ZI"},
		"and chain":       {query("rollback and chain"), 1, "E42501 ZI"},
		"of the prepared": {query("rollback prepared 'x'"), 1, "E42501 ZI"},
	})
}

// TestPW41Idle: a session that stays in its transaction is ended by the
// server's own limit, told so, and closed in the log; a lock that is waited for
// too long is an error, and the session goes on.
func TestPW41Idle(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	if out, err := server.Psql(g.db, "ALTER DATABASE "+g.db+" SET idle_in_transaction_session_timeout = '2s'"); err != nil {
		t.Fatal(err, out)
	}
	nc, waiting := g.in(t), g.in(t)
	if _, err := nc.Write(join(query("begin"), query("update orders set status = 'idle' where id = 1"))); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, nc, 2); got != "C ZT C ZT" {
		t.Fatal(got)
	}
	if _, err := waiting.Write(join(query("set lock_timeout = '50ms'"), query("update orders set status = 'mine' where id = 1"), query("select 1"))); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, waiting, 3); got != "C ZI E55P03 ZI T D C ZI" {
		t.Error(got)
	}
	all, err := io.ReadAll(nc) // nothing more is sent: the server ends it
	if err != nil || !bytes.Contains(all, []byte("25P03")) {
		t.Errorf("%q %v", all, err)
	}
	waiting.Close()
	g.quiet(t)
	if out, err := server.Psql(g.db, "select status from orders where id = 1"); err != nil || strings.TrimSpace(out) == "idle" {
		t.Error(out, err)
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, e := range g.log.events {
		if e.Kind == gate.EventDone && e.State == "committed" {
			t.Errorf("the log says %+v", e)
		}
	}
}

// looking is a guard that wants to see every result's shape.
type looking struct {
	rules
	mu     sync.Mutex
	shapes int
}

func (l *looking) Results() bool { return true }
func (l *looking) ResultSchema(_ context.Context, _ *abi.Command, s *abi.ResultSchema) (*abi.MaskPlan, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shapes++
	return &abi.MaskPlan{Kinds: slices.Repeat([]abi.MaskKind{abi.MaskPass}, len(s.Columns)), Default: abi.MaskPass}, nil
}

// TestPW42OwnQuestions: what the gateway asks the server for itself is neither
// judged nor recorded as the client's, is not answered to it, and is nothing
// that a transaction could no longer be set up after.
func TestPW42OwnQuestions(t *testing.T) {
	var mu sync.Mutex
	var judged []string
	guard := &looking{rules: rules{allow: func(c *abi.Command) bool {
		mu.Lock()
		defer mu.Unlock()
		judged = append(judged, c.Statement.Text)
		return true
	}}}
	g := serve(t, guard)
	nc := g.in(t)
	run := func(text string) []byte { return join(parseMsg("", text), bindMsg("", ""), executeMsg("")) } // and no Describe
	if _, err := nc.Write(join(run("begin"), run("set transaction isolation level serializable"), run("show transaction_isolation"), run("select id from orders where id = 3"), run("commit"), sync_(),
		query("begin"), query("set transaction read only"), query("commit"))); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, nc, 4); got != "1 2 C 1 2 C 1 2 D C 1 2 D C 1 2 C ZI C ZT C ZT C ZI" {
		t.Error(got)
	}
	guard.mu.Lock()
	if guard.shapes != 2 {
		t.Errorf("the guard saw %d shapes", guard.shapes)
	}
	guard.mu.Unlock()
	nc.Close()
	g.quiet(t)
	mu.Lock()
	defer mu.Unlock()
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	own := map[string]bool{"begin": true, "set transaction isolation level serializable": true, "show transaction_isolation": true, "select id from orders where id = 3": true, "commit": true, "set transaction read only": true}
	for _, text := range judged {
		if !own[text] {
			t.Errorf("judged as the client's: %s", text)
		}
	}
	for _, e := range g.log.events {
		if e.Kind == gate.EventText && !own[e.Text] {
			t.Errorf("recorded as the client's: %s", e.Text)
		}
	}
}
