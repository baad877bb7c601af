package postgres

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// outcomes gives what the log says became of a session's commands that were
// allowed, in their order.
func (m *memory) outcomes(session string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var order []uint64
	ended := map[uint64]string{}
	for _, e := range m.events {
		switch {
		case e.Session != session:
		case e.Kind == gate.EventCommand && e.Decision == "allow":
			order = append(order, e.Command)
			ended[e.Command] = "none"
		case e.Kind == gate.EventDone && e.Settles != "":
			ended[e.Command] = fmt.Sprintf("%s, %s %d-%d", strings.TrimSpace(e.State+" "+e.Code), e.Settles, e.First, e.Last)
		case e.Kind == gate.EventDone:
			ended[e.Command] = strings.TrimSpace(e.State + " " + e.Code)
		}
	}
	list := make([]string, len(order))
	for i, n := range order {
		list[i] = ended[n]
	}
	return strings.Join(list, "; ")
}

// TestEachOutcome: each command that was allowed has an outcome in the log, and the
// one that it had, however the session goes on and wherever the client leaves.
func TestEachOutcome(t *testing.T) {
	g := serve(t, &rules{allow: func(*abi.Command) bool { return true }})
	g.ask(t, "create table once (id int unique deferrable initially deferred); grant insert, select on once to app")
	flush := frame('H', nil)
	write := "update orders set note = 'o' where id = 5"
	fails := "select 1 / (id - id) from orders" // when it runs, and not by Bind
	run := func(text string) []byte { return join(parseMsg("", text), bindMsg("", ""), executeMsg("")) }
	for name, c := range map[string]struct {
		send []byte
		read string // the kinds of what comes before the client leaves
		want string
	}{
		"committed":             {join(query("begin"), query(write), query("commit")), "CZCZCZ", "pending; pending; completed, committed 1-2"},
		"by the extended":       {join(run("begin"), run(write), run("commit"), sync_()), "12C12C12CZ", "completed; completed; completed; completed; completed; completed"},
		"in groups":             {join(run("begin"), sync_(), run(write), sync_(), run("commit"), sync_()), "12CZ12CZ12CZ", "completed; pending; completed; pending; completed; completed, committed 2-4"},
		"rolled back":           {join(run("begin"), sync_(), run(write), sync_(), run("rollback"), sync_()), "12CZ12CZ12CZ", "completed; pending; completed; pending; completed; completed, rolled back 2-4"},
		"aborted":               {join(query("begin"), query(write), query("select 1/0"), query("commit"), query("select 1")), "CZCZEZCZTDCZ", "pending; pending; failed 22012; completed, rolled back 1-2; completed"},
		"a group that fails":    {join(run(write), run(fails), run("select 1"), sync_()), "12C12EZ", "completed; rolled back; completed; failed 22012; skipped; skipped"},
		"one text of several":   {query(write + "; select 1/0"), "CEZ", "failed 22012"},
		"and in a transaction":  {join(query("begin"), query(write+"; select 1/0"), query("rollback")), "CZCEZCZ", "pending; failed 22012; completed, rolled back 1-1"},
		"committed on the way":  {query("begin; " + write + "; commit; select 1/0"), "CCCEZ", "unknown 22012"},
		"behind another":        {join(query("begin"), query(write), query("select 1; commit")), "CZCZTDCCZ", "pending; pending; completed, committed 1-2"},
		"and fails behind it":   {join(query("begin"), query(write), query("commit; select 1/0")), "CZCZCEZ", "pending; pending; failed 22012, committed 1-2"},
		"what lasts of a group": {join(run("begin"), run(write), run("commit"), run(write), run(fails), sync_()), "12C12C12C12C12EZ", "completed; completed; completed; completed; completed; completed; completed; rolled back; completed; failed 22012"},
		"the rest of one":       {join(query("begin"), query(write), run("commit"), run(write), run(fails), sync_()), "CZCZ12C12C12EZ", "pending; pending; completed; completed, committed 1-2; completed; rolled back; completed; failed 22012"},
		"rolled back in one":    {join(run("begin"), run(write), run("rollback"), run("select 1"), sync_()), "12C12C12C12DCZ", "completed; rolled back; completed; rolled back; completed; completed; completed; completed"},
		"to a savepoint":        {join(query("begin"), query(write), query("savepoint s"), query(write), query("rollback to s"), query("commit")), "CZCZCZCZCZCZ", "pending; pending; pending; pending; pending, rolled back 4-4; completed, committed 1-5"},
		"by the extended to it": {join(query("begin"), query(write), query("savepoint s"), run("rollback to s"), sync_(), query("commit")), "CZCZCZ12CZCZ", "pending; pending; pending; completed; pending; completed, committed 1-5"},
		"a COMMIT that fails":   {join(query("begin"), query("insert into once values (1)"), query("insert into once values (1)"), query("commit"), query("select 1")), "CZCZCZEZTDCZ", "pending; pending; pending; failed 23505, rolled back 1-3; completed"},
		"in another order":      {join(query("begin"), parseMsg("", write), bindMsg("a", ""), bindMsg("b", ""), executeMsg("b"), executeMsg("a"), sync_(), query("commit")), "CZ122CCZCZ", "pending; completed; pending; pending; completed, committed 1-4"},
		"a part, then closed":   {join(query("begin"), parseMsg("", write+" or id = 6 returning id"), bindMsg("p", ""), executeLimit("p", 1), frame('C', []byte("Pp\x00")), sync_(), query("commit")), "CZ12Ds3ZCZ", "pending; completed; pending; completed, committed 1-3"},
		"a part, and no more":   {join(parseMsg("", write+" or id = 6 returning id"), bindMsg("p", ""), executeLimit("p", 1), sync_()), "12DsZ", "completed; completed"},
		"a part, and no Sync":   {join(parseMsg("", write+" or id = 6 returning id"), bindMsg("p", ""), executeLimit("p", 1), frame('C', []byte("Pp\x00")), flush), "12Ds3", "unknown; unknown"},
		"bound alone":           {join(parseMsg("", write), bindMsg("", ""), sync_()), "12Z", "completed; skipped"},
		"bound, and no Sync":    {join(parseMsg("", write), bindMsg("", ""), flush), "12", "unknown; unknown"},
		"bound twice":           {join(parseMsg("", write), bindMsg("", ""), bindMsg("", ""), flush), "122", "unknown; skipped; unknown"},
		"bound and closed":      {join(parseMsg("", write), bindMsg("p", ""), frame('C', []byte("Pp\x00")), flush), "123", "unknown; skipped"},
		"run, and no Sync":      {join(run(write), flush), "12C", "unknown; unknown"},
		"failed, and no Sync":   {join(run(fails), bindMsg("", ""), flush), "12E", "unknown; failed 22012; skipped"},
		"in a transaction":      {join(query("begin"), query(write)), "CZCZ", "pending; pending"},
		"what is not one":       {join(query("selct"), parseMsg("", "selct"), sync_()), "EZEZ", "failed; failed"},
		"bound, what is gone":   {join(parseMsg("p", "select 1"), sync_(), query("deallocate p"), bindMsg("", "p"), sync_()), "1ZCZEZ", "completed; completed"},
		"a name that is gone":   {join(query("prepare q as select 1"), parseMsg("x", "execute q"), sync_(), query("deallocate q"), bindMsg("", "x"), sync_()), "CZ1ZCZEZ", "completed; completed; completed; failed"},
		"while it takes data":   {join(query("copy items from stdin"), frame('d', []byte("1"))), "G", "unknown 08006"},
		"a COPY that it ends":   {join(query("copy items from stdin"), frame('f', []byte("no\x00"))), "GEZ", "failed 57014"},
		"a portal in its parts": {join(query("begin"), parseMsg("", "select id from orders"), bindMsg("p", ""), executeLimit("p", 2), executeLimit("p", 2), sync_()), "CZ12DDsDDsZ", "pending; completed; unknown"},
	} {
		nc := g.in(t)
		session := g.Sessions()[0].ID()
		send(t, nc, c.send)
		got := ""
		for len(got) < len(c.read) {
			kind, _, err := readMessage(nc)
			if err != nil {
				t.Errorf("%s: after %s: %v", name, got, err)
				break
			}
			got += string(kind)
		}
		if got != c.read {
			t.Errorf("%s: %s, want %s", name, got, c.read)
		}
		nc.Close()
		g.quiet(t)
		if got := g.log.outcomes(session); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// tapes keeps what recordings are given.
type tapes struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (k *tapes) Record(string) (gate.Recording, error) { return k, nil }
func (k *tapes) Append(b []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := k.all.Write(b)
	return err
}
func (k *tapes) Head() int    { return 1 << 16 }
func (k *tapes) Close() error { return nil }

// has says whether something of that is kept.
func (k *tapes) has(what string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return bytes.Contains(k.all.Bytes(), []byte(what))
}

// TestCopyIsRecorded: the recording has the data that a COPY takes, at once or
// once it is approved, and all that one shows, its header too.
func TestCopyIsRecorded(t *testing.T) {
	guard := &protector{protect: masks(abi.MaskNull, "", "people.ssn")}
	g, p := review(t, &holds{holds: func(c *abi.Command) bool { return strings.HasSuffix(c.Statement.Text, " csv") }})
	k := &tapes{}
	g.Recorder = k
	g.people(t, 2)
	nc := g.in(t)
	send(t, nc, query("copy items (order_id, sku, quantity, price) from stdin"), frame('d', []byte("1\tstreamed\t1\t1\n")), frame('c', nil))
	want(t, nc, 1, "G C ZI")
	send(t, nc, query("copy items (order_id, sku, quantity, price) from stdin csv"), frame('d', []byte("1,approved,1,1\n")), frame('c', nil))
	p.approve(p.next(t))
	want(t, nc, 1, "G C ZI")
	g.Swap(generation(guard))
	send(t, nc, query("copy people (id, name, ssn) to stdout (format csv, header)"))
	want(t, nc, 1, "H d d d c C ZI")
	for _, what := range []string{"streamed", "approved", "id,name,ssn", "2,n2,"} {
		if !k.has(what) {
			t.Errorf("%q is not in the recording", what)
		}
	}
}
