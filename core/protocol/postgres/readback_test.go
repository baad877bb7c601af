package postgres

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/core/gate"
)

// TestPW33ReadBack: after a call of a function that may do anything the gateway
// asks the server whether the session is still what it was, before the next
// text goes. The client hears nothing of that where it is.
func TestPW33ReadBack(t *testing.T) {
	g := serve(t, &rules{allow: anything})
	if out, err := server.Psql(g.db, `CREATE FUNCTION move(text, text) RETURNS text LANGUAGE sql AS 'select set_config($1, $2, false)';
		CREATE FUNCTION move_local(text, text) RETURNS text LANGUAGE sql AS 'select set_config($1, $2, true)';
		CREATE FUNCTION harmless() RETURNS int LANGUAGE plpgsql AS 'begin return 7; end';
		DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'else') THEN CREATE ROLE "else"; GRANT "else" TO app; END IF; END $$;
		CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO app;
		CREATE FUNCTION evil.eq(name, name) RETURNS bool LANGUAGE sql AS 'select true'; CREATE OPERATOR evil.= (leftarg = name, rightarg = name, function = evil.eq);
		CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$select 'origin'$$;`); err != nil {
		t.Fatal(err, out)
	}
	next := generation(&rules{allow: anything})
	next.Tasks["x"].Options = &TaskOptions{StatementTimeout: 30 * time.Second}
	g.Swap(next)
	call := func(text string) []byte { return join(parseMsg("", text), bindMsg("", ""), executeMsg("")) }
	converseWith(t, g, map[string]conversation{
		"harmless":                      {join(query("select harmless()"), query("select 1"), query("delete from orders where id = 0; selct"), query("select 2")), 4, "T D C ZI T D C ZI E42601 ZI T D C ZI"},
		"in a transaction":              {join(query("begin"), query("select harmless()"), query("select 1"), query("commit"), query("begin"), query("set transaction isolation level serializable"), query("commit")), 7, "C ZT T D C ZT T D C ZT C ZI C ZT C ZT C ZI"},
		"pipelined":                     {join(call("select harmless()"), call("select 1"), sync_(), query("select 2")), 2, "1 2 D C 1 2 D C ZI T D C ZI"},
		"the rest of the group stands":  {join(call("update orders set note = 'one' where id = 1"), call("select harmless()"), call("select 1/0"), sync_(), query("select id from orders where note = 'one'")), 2, "1 2 C 1 2 D C 1 E22012 ZI T C ZI"},
		"unnamed and named things stay": {join(query("begin"), parseMsg("s", "select 1"), bindMsg("p", "s"), sync_(), query("select harmless()"), executeMsg("p"), parseMsg("", "select 2"), sync_(), bindMsg("", ""), executeMsg(""), sync_(), query("rollback")), 6, "C ZT 1 2 ZT T D C ZT D C 1 ZT 2 D C ZT C ZI"},
		"aborted, then back":            {join(query("begin"), query("select harmless()"), query("select 1/0"), query("select 1"), query("rollback"), query("select 1")), 6, "C ZT T D C ZT E22012 ZE E25P02 ZE C ZI T D C ZI"},
		"aborted by the call":           {join(query("begin"), query("select 1/(harmless()-7)"), query("select 1"), query("rollback"), query("select 1")), 5, "C ZT T E22012 ZE E25P02 ZE C ZI T D C ZI"},
		"skipping behind the call":      {join(call("select 1/(harmless()-7)"), call("select 1"), sync_(), query("select 2")), 2, "1 2 E22012 ZI T D C ZI"},
		"moved and taken back":          {join(query("begin"), query("select move_local('lock_timeout', '5s')"), query("rollback"), query("select 1")), 4, "C ZT T D C ZT C ZI T D C ZI"},
		"UTF8 by another name":          {join(query("set client_encoding = 'UNICODE'"), query("select harmless()"), query("select 1")), 3, "C ZI T D C ZI T D C ZI"},
		"its name is reserved":          {join(parseMsg(ownName, "select 1"), sync_()), 1, "E42P05 ZI"},
	})
	for name, text := range map[string]string{
		"another role": "select move('role', 'else')", "for the transaction": "select move_local('role', 'else')", "no limit": "select move('statement_timeout', '0')",
		"a larger limit": "select move('statement_timeout', '1h')", "and the path as well": "select move('role', 'else'), move('search_path', 'evil, pg_catalog')",
	} {
		for how, b := range map[string][]byte{
			"by Query":        join(query("begin"), query(text), query("update orders set note = 'other' where id = 2"), query("commit")),
			"by the extended": join(call("begin"), call(text), call("update orders set note = 'other' where id = 2"), call("commit"), sync_()),
			"bound before":    join(query("begin"), parseMsg("", "update orders set note = 'other' where id = 2"), bindMsg("p", ""), sync_(), query(text), executeMsg("p"), sync_(), query("commit")),
		} {
			nc := g.in(t)
			if _, err := nc.Write(b); err != nil {
				t.Fatal(err)
			}
			all := untilEnd(nc)
			if !strings.Contains(all, "FATAL") || strings.Contains(all, "UPDATE") {
				t.Errorf("%s, %s:\n%s", name, how, all)
			}
		}
	}
	g.quiet(t)
	if out, err := server.Psql(g.db, "select count(*) from orders where note = 'other'"); err != nil || strings.TrimSpace(out) != "0" {
		t.Error(out, err)
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	for _, e := range g.log.events {
		if e.Kind == gate.EventText && strings.Contains(e.Text, "current_setting") {
			t.Errorf("recorded as the client's: %s", e.Text)
		}
	}
}

// untilEnd gives the messages that come before a connection ends.
func untilEnd(nc net.Conn) (all string) {
	for {
		kind, body, err := readMessage(nc)
		if err != nil {
			return all
		}
		all += fmt.Sprintf("%c %.60q\n", kind, body)
	}
}
