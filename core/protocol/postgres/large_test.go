package postgres

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/core/gate"
)

// TestLargeTexts: a text that is too large for its message to be read is refused
// as any other is, and the session goes on.
func TestLargeTexts(t *testing.T) {
	g := serve(t, &rules{allow: understood})
	g.secured(t)
	g.protocol.Plain = true
	long := "select '" + strings.Repeat("x", 3<<20) + "'"
	for _, tls := range []bool{false, true} {
		for _, loop := range []bool{false, true} {
			g.protocol.Loop(loop)
			g.overTLS = tls
			nc := g.in(t)
			for i, s := range []struct {
				ask    []byte
				rounds int
				want   string
			}{
				{query("select 1"), 1, "T D C ZI"},
				{query(long), 1, "E54000 ZI"},
				{join(query(long), query("select 1")), 2, "E54000 ZI T D C ZI"},
				{join(parseMsg("", "select 1"), sync_(), parseMsg("", long), bindMsg("", ""), executeMsg(""), sync_(), query("select 2")), 3, "1 ZI E54000 ZI T D C ZI"},
				{join(parseMsg("kept", "select 1"), sync_(), parseMsg("kept", long), sync_(), bindMsg("", "kept"), executeMsg(""), sync_()), 3, "1 ZI E54000 ZI 2 D C ZI"},
				{join(parseMsg("new", long), sync_(), bindMsg("", "new"), sync_()), 2, "E54000 ZI E26000 ZI"},
				{join(parseMsg(strings.Repeat("n", 70), long), sync_()), 1, "E42622 ZI"},
				{join(query("begin"), query(long), query("select 1"), query("rollback")), 4, "C ZT E54000 ZE E25P02 ZE C ZI"},
				{join(parseMsg("", "select 1/0"), bindMsg("", ""), executeMsg(""), parseMsg("", long), query(long), sync_(), query("select 1")), 2, "1 E22012 ZI T D C ZI"},
			} {
				send(t, nc, s.ask)
				if got := kinds(t, nc, s.rounds); got != s.want {
					t.Errorf("tls %t, loop %t, %d: %s, not %s", tls, loop, i, got, s.want)
				}
			}
			nc.Close()
		}
	}
	if !g.log.has(func(e *gate.Event) bool { return strings.HasPrefix(e.Text, "(a text of 31457") }) {
		t.Error("nothing is written down of them")
	}
}
