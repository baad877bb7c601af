package postgres

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A function that a rule names may do anything, and so may leave the session
// another one than texts are judged for: another role, encoding or limit. So
// the gateway asks the server itself before the next text of the client goes.

// ownName is a reserved name, of the statement and the portal that ask.
const ownName = "taskgate_settings"

// pinned is the text that asks: it is true as long as everything is as at login.
// Its operators are named in full, since the search path may have moved too.
func (c *conn) pinned(role string) string {
	const is = " OPERATOR(pg_catalog.=) "
	text := "SELECT current_user" + is + quoteLiteral(role) + " AND session_user" + is + quoteLiteral(role) +
		" AND pg_catalog.current_setting('session_replication_role')" + is + "'origin'" +
		" AND pg_catalog.pg_client_encoding()" + is + "'UTF8' AND pg_catalog.current_setting('standard_conforming_strings')" + is + "'on'"
	_, task := c.session.Resource()
	if o, ok := taskOptions(task); ok && o.StatementTimeout > 0 {
		text += fmt.Sprintf(" AND pg_catalog.current_setting('statement_timeout')::pg_catalog.interval OPERATOR(pg_catalog.>) '0'"+
			" AND pg_catalog.current_setting('statement_timeout')::pg_catalog.interval OPERATOR(pg_catalog.<=) '%d ms'", o.StatementTimeout.Milliseconds())
	}
	return text
}

// readBack asks, and waits for the answer. Where a transaction is aborted or
// the server skips to the next Sync, nothing can run, and it is asked later.
func (c *conn) readBack() error {
	if err := c.await(func() bool { return len(c.queue) == 0 }); err != nil {
		return err
	}
	c.catchUp()
	c.mu.Lock()
	later := c.skipping || c.status == 'E'
	c.fits = false
	c.mu.Unlock()
	if later {
		return nil
	}
	named := c.named
	s, err := c.schema(c.session.Context())
	if errors.As(err, new(*noSchema)) { // of which only the role's name is wanted; what comes next is refused by a look of its own
		s, err = c.judging(), nil
	}
	if err != nil {
		return err
	}
	b := append([]byte(ownName), 0)
	synced := !c.unsynced
	c.ask('P', append(append(b[:len(b):len(b)], c.pinned(s.Role.Name)...), 0, 0, 0))
	c.ask('B', append(append(b[:len(b):len(b)], b...), 0, 0, 0, 0, 0, 0))
	c.ask('E', append(b[:len(b):len(b)], 0, 0, 0, 0))
	c.ask('C', append([]byte{'P'}, b...))
	c.ask('C', append([]byte{'S'}, b...))
	if synced { // what the client has not ended stays open
		c.ask('S', nil)
		c.group++
	}
	c.unsynced, c.named = !synced, named
	if err := c.await(func() bool { return len(c.queue) == 0 }); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.fits {
		return &fatal{code: "57P01", message: "terminating connection: a function has changed the session's role or settings", cause: errors.New("the pinned settings are not as at login")}
	}
	c.called = false
	c.replaced() // it can have changed that too
	return nil
}

// replaced has what the session or its transaction has of its own be read again, where
// a function may have put others in their place.
func (c *conn) replaced() {
	c.temp.again = c.temp.again || c.temp.own != nil
	c.inside.again = c.inside.again || c.inside.schema != nil
}

func (c *conn) ask(kind byte, body []byte) {
	c.push(entry{kind: kind, own: true})
	c.out = append(c.out, frame(kind, body)...)
}

// ownAnswer takes what the server answers to the gateway itself.
func (c *conn) ownAnswer(e *entry, kind byte, m []byte) error {
	c.mu.Lock()
	taken, err := c.gather(e, kind, m)
	c.mu.Unlock()
	if taken || err != nil {
		return err
	}
	switch {
	case kind == 'D' && e.kind == 'E':
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fits = bytes.Equal(m[5:], []byte("\x00\x01\x00\x00\x00\x01t"))
		return nil
	case kind == '1' && e.kind == 'P', kind == '2' && e.kind == 'B', kind == 'C' && e.kind == 'E', kind == '3' && e.kind == 'C':
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pop()
		return nil
	case kind == 'E':
		var said pgproto3.ErrorResponse
		if err := said.Decode(m[5:]); err != nil {
			return err
		}
		return &fatal{code: "08006", message: fmt.Sprintf("the server does not tell the session's settings or catalog (session %s)", c.session.ID()), hint: "something else may have changed the schema meanwhile, or a timeout is short: connect again and try once more", cause: fmt.Errorf("%s: %s", said.Code, said.Message)}
	}
	return unasked(kind)
}

// quoteLiteral writes a constant; standard_conforming_strings does not matter
// to it.
func quoteLiteral(s string) string {
	var b bytes.Buffer
	b.WriteString("E'")
	for _, ch := range []byte(s) {
		if ch == '\'' || ch == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(ch)
	}
	b.WriteByte('\'')
	return b.String()
}
