package postgres

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
)

// TestKept: what a client has the gateway keep behind names is bounded in bytes,
// and there is room again once it closes some. What is prepared anew under one
// name does not add up.
func TestKept(t *testing.T) {
	g := serve(t, &rules{allow: anything, inputs: abi.InputParams})
	large := strings.Repeat("x", 1<<20-100)
	text := func(i int) string { return fmt.Sprintf("select '%s%d'", large, i) }
	for name, one := range map[string]func(i int) []byte{
		"statements": func(i int) []byte { return parseMsg(fmt.Sprint("s", i), text(i)) },
		"PREPARE":    func(i int) []byte { return query(fmt.Sprintf("prepare s%d as %s", i, text(i))) },
		"cursors":    func(i int) []byte { return query(fmt.Sprintf("declare c%d cursor for %s", i, text(i))) },
		"portals":    func(i int) []byte { return join(parseMsg("", text(i)), bindMsg(fmt.Sprint("p", i), "")) },
		"values": func(i int) []byte {
			return join(parseMsg("", "select length($1::text)"), bindValues(fmt.Sprint("p", i), "", nil, []string{large}, nil))
		},
	} {
		c := g.in(t)
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		ask := func(b []byte) string {
			t.Helper()
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			return kinds(t, c, 1)
		}
		ask(query("begin"))
		n := 0
		for ; n < 200; n++ {
			b := one(n)
			if b[0] != 'Q' {
				b = join(b, sync_())
			}
			if got := ask(b); strings.Contains(got, "E54000") {
				break
			} else if strings.Contains(got, "E") {
				t.Fatalf("%s %d: %s", name, n, got)
			}
		}
		if n < 10 || n > maxNamed>>20 {
			t.Errorf("%s: the bound came after %d", name, n)
		}
		ask(query("rollback"))
		ask(query("deallocate all"))
		if got := ask(query("prepare again as " + text(0))); strings.Contains(got, "E") {
			t.Errorf("%s: no room once all are closed: %s", name, got)
		}
		for i := range 80 {
			if name != "statements" {
				break
			}
			if got := ask(join(parseMsg("", text(i)), sync_())); got != "1 ZI" {
				t.Fatalf("%s: prepared anew %d: %s", name, i, got)
			}
		}
		c.Close()
	}
	g.quiet(t)
	if n := g.protocol.memory.now(); n != 0 {
		t.Errorf("%d bytes are held by nobody", n)
	}
}

// TestHeld: all sessions together hold so much and no more, and those of one person
// half of it. Who asks for more is told, whoever has little goes on, and what is
// given back others can have.
func TestHeld(t *testing.T) {
	for name, k := range map[string]struct {
		people bool
		fit    int // sessions that each hold half
		says   string
	}{
		"all":        {true, 2, "Mall sessions hold 16 MB"},
		"one person": {false, 1, "Myour sessions hold 8 MB"},
	} {
		t.Run(name, func(t *testing.T) {
			g := serve(t, &rules{allow: anything})
			if k.people {
				g.Identity = &strangers{Identity: g.Identity}
			}
			g.protocol.memory.most = 16 << 20
			values := bindValues("", "", nil, []string{strings.Repeat("x", 5<<20)}, nil)
			fit := make([]net.Conn, k.fit)
			for i := range fit {
				fit[i] = g.in(t)
				if _, err := fit[i].Write(join(parseMsg("", "select length($1::text)"), values[:len(values)-1])); err != nil {
					t.Fatal(err)
				}
			}
			g.holds(t, k.fit*5<<20, k.fit*8<<20)
			b := g.in(t)
			go func() { _, _ = b.Write(join(parseMsg("", "select length($1::text)"), values, executeMsg(""), sync_())) }()
			if said, _ := io.ReadAll(b); !bytes.Contains(said, []byte("C53200\x00")) || !bytes.Contains(said, []byte(k.says)) { // and then it is reset, as it goes on sending
				t.Errorf("%q", said)
			}
			if out := g.psql(t, "prepare s as select 'in';\nexecute s;\n"); !strings.Contains(out, "in") {
				t.Error(out)
			}
			for _, a := range fit {
				if _, err := a.Write(join(values[len(values)-1:], executeMsg(""), sync_())); err != nil {
					t.Fatal(err)
				}
				if got := kinds(t, a, 1); got != "1 2 D C ZI" {
					t.Error(got)
				}
			}
			g.holds(t, 0, 0)
			if len(g.protocol.memory.by) != 0 {
				t.Error("who holds nothing is remembered")
			}
		})
	}
}

// TestHeldRows: so it is with a row that has to be whole.
func TestHeldRows(t *testing.T) {
	w := serve(t, &protector{protect: masks(abi.MaskNull, "", "people.ssn", "people.note")})
	w.protocol.memory.most = 4 << 20
	p := w.people(t, 1)
	if out, err := server.Psql(w.db, "UPDATE people SET note = repeat('secret ', 1000000)"); err != nil {
		t.Fatal(out, err)
	}
	c, got := w.tapped(t, w.url())
	if r := c.ExecParams(t.Context(), "select id, note from people", nil, nil, nil, nil).Read(); code(r.Err) != "53200" {
		t.Error(r.Err)
	}
	if _, err := c.Exec(t.Context(), "update people set id = id + 100 returning id, note").ReadAll(); code(err) != "53200" {
		t.Error(err)
	}
	if out, err := server.Psql(w.db, "SELECT count(*) FROM people WHERE id > 100"); err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("what was refused has happened: %s %v", out, err)
	}
	if r := c.ExecParams(t.Context(), "select id from people", nil, nil, nil, nil).Read(); r.Err != nil || len(r.Rows) != 1 {
		t.Errorf("the session does not go on: %v", r.Err)
	}
	if p.needles = append(p.needles, []byte("secret secret")); p.found(got.got.Bytes()) != "" {
		t.Error("what is masked came through")
	}
	w.holds(t, 0, 0)
}

// TestKeptInFlight: nor do texts add up that wait for their answer, or for a
// Sync; and a search path, which each text remembers, is short.
func TestKeptInFlight(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	comment := strings.Repeat("x", 1<<20-100)
	c := g.in(t)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	go func() {
		for i := range 200 {
			if _, err := c.Write(join(parseMsg("", fmt.Sprintf("select 1 /* %d%s */", i, comment)), frame('H', nil))); err != nil {
				return
			}
		}
	}()
	if said, _ := io.ReadAll(c); !bytes.Contains(said, []byte("C54000\x00")) || bytes.Count(said, []byte("1\x00\x00\x00\x04")) < 20 {
		t.Errorf("a group without a Sync has no bound: %d bytes", len(said))
	}
	// Behind a command that waits for a lock.
	holder, waiter := g.in(t), g.in(t)
	_ = waiter.SetDeadline(time.Now().Add(time.Minute))
	if _, err := holder.Write(query("begin; lock table orders")); err != nil {
		t.Fatal(err)
	}
	kinds(t, holder, 1)
	written := make(chan int, 200)
	go func() {
		defer close(written)
		_, _ = waiter.Write(query("select count(*) from orders"))
		for i := range 100 {
			if _, err := waiter.Write(join(parseMsg("", fmt.Sprintf("select 2 /* %d%s */", i, comment)), sync_())); err != nil {
				return
			}
			written <- i
		}
	}()
	time.Sleep(time.Second)
	if n := len(written); n > 60 { // what sockets hold among them
		t.Errorf("%d texts are waiting", n)
	}
	if _, err := holder.Write(query("rollback")); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, waiter, 101); strings.Contains(got, "E") || strings.Count(got, "1") != 100 {
		t.Error(got)
	}
	d := g.in(t)
	for text, want := range map[string]string{"set search_path to public": "C ZI", "set search_path to " + strings.Repeat("x, ", 2000) + "x": "E54000 ZI"} {
		if _, err := d.Write(query(text)); err != nil {
			t.Fatal(err)
		}
		if got := kinds(t, d, 1); got != want {
			t.Errorf("%.40s: %s", text, got)
		}
	}
}

// TestKeptUntilSync: of each message of the extended protocol so much counts as is
// kept of it until the next Sync.
func TestKeptUntilSync(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	const n = 10_000
	for what, k := range map[string]struct {
		before, each []byte
		least        int
	}{
		"Parse":   {nil, parseMsg("", "select 1"), n * perCommand},
		"Bind":    {parseMsg("", "select 1"), bindMsg("", ""), n * perCommand},
		"Execute": {join(parseMsg("", "select 1"), bindMsg("", "")), executeMsg(""), n * perExecute},
	} {
		c := g.in(t)
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		drained := make(chan string)
		go func() { drained <- kinds(t, c, 1) }()
		send(t, c, k.before, bytes.Repeat(k.each, n), frame('H', nil))
		g.holds(t, k.least-grain, k.least+2*grain)
		send(t, c, sync_())
		if got := <-drained; strings.Contains(got, "E") {
			t.Errorf("%s: %.80s", what, got)
		}
		c.Close()
		g.holds(t, 0, 0)
	}
}

// TestKeptOnce: a text counts once, however often a group has it.
func TestKeptOnce(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	c := g.connect(t).PgConn()
	text := "select 1 /* " + strings.Repeat("x", 1<<20-100) + " */"
	p := c.StartPipeline(t.Context())
	for range maxGrouped>>20 + 20 {
		p.SendPrepare("", text, nil)
	}
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestKeptBack: what is closed is given back, and what several sessions keep
// alike counts once.
func TestKeptBack(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	g.protocol.memory.most = 64 << 20 // half of it for ada, once for all her sessions
	large := strings.Repeat("x", 1<<20-100)
	all := make([]net.Conn, 4)
	for i := range all {
		all[i] = g.in(t)
		_ = all[i].SetDeadline(time.Now().Add(time.Minute))
		for n := range 5 {
			if _, err := all[i].Write(join(parseMsg(fmt.Sprint("s", n), fmt.Sprintf("select '%s%d'", large, n)), sync_())); err != nil {
				t.Fatal(err)
			}
			if got := kinds(t, all[i], 1); got != "1 ZI" {
				t.Fatal(got)
			}
		}
	}
	g.holds(t, 9<<20, 30<<20)
	ask := func(c net.Conn, b []byte) string {
		t.Helper()
		send(t, c, b)
		return kinds(t, c, 1)
	}
	held := g.protocol.memory.now()
	for _, c := range all { // some of it, and all of it
		ask(c, query("deallocate s4"))
		ask(c, query("select 1"))
	}
	g.holds(t, 5<<20, held-grain)
	more := func(n int) []byte { return query(fmt.Sprintf("prepare s%d as select '%s%d'", n, large, n)) }
	got, n := "C ZI", 5
	for ; got == "C ZI" && n < 40; n++ {
		got = ask(all[0], more(n))
	}
	if got != "E53200 ZI" {
		t.Errorf("%d more: %s", n, got)
	}
	ask(all[0], query("deallocate s5"))
	if got := ask(all[0], more(n)); got != "C ZI" {
		t.Errorf("no room once one is closed: %s", got)
	}
	for _, c := range all {
		ask(c, query("deallocate all"))
		ask(c, query("select 1"))
	}
	g.holds(t, 0, 0)
	if m := &g.protocol.memory; len(m.by) != 0 || len(m.all.users) != 0 {
		t.Error("who holds nothing, or what nobody holds, is remembered")
	}
}

// TestKeptNames: a session has so many names and no more. One that it has already it
// may give to something else, and there is room again once it closes one.
func TestKeptNames(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	c := g.in(t)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	ask := func(b ...[]byte) string {
		t.Helper()
		send(t, c, join(b...), sync_())
		return kinds(t, c, 1)
	}
	all := parseMsg("", "")
	for i := range maxNames - 1 {
		all = append(all, parseMsg(fmt.Sprint("s", i), "")...)
	}
	if got := ask(all); strings.Count(got, "1") != maxNames || strings.Contains(got, "E") {
		t.Fatalf("%.80s", got)
	}
	for _, k := range []struct {
		send []byte
		want string
	}{
		{parseMsg("", "select 1"), "1 ZI"}, {parseMsg("s0", ""), "E42P05 ZI"}, {parseMsg("more", ""), "E54000 ZI"}, {bindMsg("", "s0"), "E54000 ZI"},
		{frame('C', []byte("Ss0\x00")), "3 ZI"}, {parseMsg("more", ""), "1 ZI"}, {parseMsg("s0", ""), "E54000 ZI"},
	} {
		if got := ask(k.send); got != k.want {
			t.Errorf("%.20q: %s, not %s", k.send, got, k.want)
		}
	}
}

// holds waits until all sessions hold so much.
func (g *gateway) holds(t *testing.T, least, most int) {
	t.Helper()
	for range 500 {
		if n := g.protocol.memory.now(); n >= least && n <= most {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d bytes are held", g.protocol.memory.now())
}
