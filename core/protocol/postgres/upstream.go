package postgres

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/mask"
	"github.com/taskgate/taskgate/core/sql"
)

// TaskOptions is what a gate.Task may carry for this protocol in Options.
type TaskOptions struct {
	StatementTimeout time.Duration
	Introspect       bool
	Channels         []string         // those whose payloads the task may see
	Masked           []abi.Source     // what it masks: while one of them is not there, the task is closed
	Blind            *sql.Blind       // what texts of a task that is blind see, as Blind makes it
	Filter           *sql.Filter      // masked columns that texts may compare with values, as Filter makes it
	Listed           *sql.Listing     // what it is told of, where that is not all
	Definitions      *sql.Definitions // what it is told of how things are made, where that is anything
}

// Blind makes what texts of a task that is blind see: the columns that it lists,
// through its masks.
func Blind(masks []abi.Protect, lists func(relation []string, column string) bool) *sql.Blind {
	return sql.NewBlind(masks, lists, func(p *abi.Protect, c abi.Class, typ, value string) (string, error) {
		return mask.Express(mask.Rule{Kind: p.Kind, Arg: p.Arg, Nulls: p.Nulls}, c, typ, value)
	})
}

// Filter makes what texts may compare with values, of columns that are masked.
func Filter(columns []abi.Source) *sql.Filter { return sql.NewFilter(columns) }

// Listing makes what a task with `introspect: listed` is told of: the relations and
// functions that it lists.
func Listing(lists func(kind string, object []string) bool) *sql.Listing {
	return sql.NewListing(lists)
}

// Definitions makes what a task with `introspect: definitions` is told, of what says
// whether it reads a column as it is and whether it masks one.
func Definitions(reads, masked func(relation []string, column string) bool) *sql.Definitions {
	return sql.NewDefinitions(reads, masked)
}

// ResourceOptions is what a gate.Resource carries for this protocol in Options.
type ResourceOptions struct {
	Extensions  []string        // whose types and immutable functions texts may use
	Privileged  map[string]bool // logins that may be a superuser, bypass row-level security or own tables
	Dial        any             // of the dialer
	DriftStrict bool            // each answer waits until the schema has been seen to be what was judged
	Probe       bool            // PostgreSQL itself is asked what a text reads, once a text
}

func taskOptions(t *gate.Task) (*TaskOptions, bool) {
	if t == nil {
		return nil, false
	}
	o, ok := t.Options.(*TaskOptions)
	return o, ok
}

// maxMessage bounds a message that has to be held as a whole, in bytes.
const maxMessage = 1 << 20

// maxSaid bounds an error or a notice, which may hold a value of a row, or the
// text as the server understood it.
const maxSaid = 16 << 20

// connect dials the resource and logs in there.
func (c *conn) connect(ctx context.Context, given map[string]string) error {
	up, err := c.session.Dial(ctx)
	if err == nil {
		var nc net.Conn
		if nc, err = secureUpstream(ctx, up); err == nil {
			c.upstream = nc
			_ = nc.SetDeadline(time.Now().Add(loginTime))
			if err = c.enter(up, given); err != nil {
				nc.Close()
			}
			_ = nc.SetDeadline(time.Time{})
		}
	}
	var said *fatal
	if errors.As(err, &said) {
		return err
	}
	if err != nil {
		return c.unreachable(err)
	}
	return nil
}

// unreachable tells the client no more than that, and the operator why.
func (c *conn) unreachable(err error) error {
	c.p.log(c.session.ID(), "session of "+c.session.About().Resource, err)
	f := &fatal{code: "08006", message: fmt.Sprintf("the resource %s cannot be reached (session %s)", c.session.About().Resource, c.session.ID()), cause: err}
	var own *gate.Credential
	if errors.As(err, &own) {
		f.message = fmt.Sprintf("the gateway could not log in to the resource %s (session %s)", c.session.About().Resource, c.session.ID())
		f.hint = tellOperator
	}
	return f
}

// secureUpstream asks the server for TLS where the resource wants it. Nothing
// but the one byte that answers is read in the clear (PW02).
func secureUpstream(ctx context.Context, up gate.Upstream) (net.Conn, error) {
	if up.TLS == nil {
		return up.Conn, nil
	}
	config, ok := up.TLS.(*tls.Config)
	if !ok {
		up.Conn.Close()
		return nil, errors.New("upstream: not a TLS configuration")
	}
	deadline := time.Now().Add(loginTime)
	if d, ok := ctx.Deadline(); ok {
		deadline = d
	}
	_ = up.Conn.SetDeadline(deadline)
	request := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, codeTLS)
	var answer [1]byte
	_, err := up.Conn.Write(request)
	if err == nil {
		_, err = io.ReadFull(up.Conn, answer[:])
	}
	if err == nil && answer[0] != 'S' {
		err = errors.New("the server offers no TLS, which the resource demands")
	}
	var t *tls.Conn
	if err == nil {
		t = tls.Client(under(up.Conn), config)
		err = t.HandshakeContext(ctx)
	}
	if err != nil {
		up.Conn.Close()
		return nil, fmt.Errorf("upstream: TLS: %w", err)
	}
	_ = up.Conn.SetDeadline(time.Time{})
	return t, nil
}

// enter sends a startup packet of the gateway's own making, authenticates by
// SCRAM and takes what the server tells until it is ready.
func (c *conn) enter(up gate.Upstream, given map[string]string) error {
	m := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0}, version30)
	put := func(k, v string) { m = append(append(append(append(m, k...), 0), v...), 0) }
	put("user", up.User)
	put("database", up.Database)
	put("client_encoding", "UTF8")
	for _, name := range slices.Sorted(maps.Keys(given)) {
		put(name, given[name])
	}
	m = append(m, 0)
	binary.BigEndian.PutUint32(m, uint32(len(m)))
	if _, err := c.upstream.Write(m); err != nil {
		return err
	}
	auth := &scram{password: up.Password}
	for said := 0; ; {
		kind, body, err := readMessage(c.upstream)
		if err != nil {
			return err
		}
		if said += len(body) + 5; said > maxMessage { // who talks for ever never comes to the point (X10)
			return errors.New("upstream: too much is said before it is ready")
		}
		switch kind {
		case 'R':
			reply, err := auth.step(body)
			if err != nil {
				return &gate.Credential{Err: fmt.Errorf("upstream: authentication: %w", err)}
			}
			if reply != nil {
				if _, err := c.upstream.Write(reply); err != nil {
					return err
				}
			}
		case 'E':
			var e pgproto3.ErrorResponse
			if err := e.Decode(body); err != nil {
				return err
			}
			err := fmt.Errorf("upstream: %s (SQLSTATE %s)", e.Message, e.Code)
			if auth.done && (e.Code == "22023" || e.Code == "42704") { // of a setting that the client has given
				return &fatal{code: e.Code, message: e.Message, cause: err}
			}
			if strings.HasPrefix(e.Code, "28") || e.Code == "3D000" {
				return &gate.Credential{Err: err}
			}
			return err
		case 'N', 'v':
		case 'S':
			if !auth.done {
				return errors.New("upstream: a parameter before authentication")
			}
			ok, err := c.parameter(body)
			if err != nil {
				return err
			}
			if ok {
				c.parametersSeen = append(c.parametersSeen, frame('S', body))
			}
		case 'K':
			if !auth.done || len(body) < 8 {
				return errors.New("upstream: a cancel key out of place")
			}
			c.upstreamKey = append([]byte(nil), body...)
		case 'Z':
			if !auth.done || len(body) != 1 || body[0] != 'I' {
				return errors.New("upstream: ready out of place")
			}
			return nil
		default:
			return fmt.Errorf("upstream: the message %q during startup", kind)
		}
	}
}

// reported are the parameters that a client is told. What makes the text mean
// something else than was judged ends the session.
var reported = map[string]bool{
	"server_version": true, "server_encoding": true, "client_encoding": true, "application_name": true, "DateStyle": true,
	"IntervalStyle": true, "TimeZone": true, "integer_datetimes": true, "standard_conforming_strings": true, "in_hot_standby": true,
	"default_transaction_read_only": true, "scram_iterations": true, "is_superuser": true, "search_path": true,
}

// parameter looks at a ParameterStatus message and says whether the client
// gets it.
func (c *conn) parameter(body []byte) (bool, error) {
	name, rest, ok := cutString(body)
	value, rest, ok2 := cutString(rest)
	if !ok || !ok2 || len(rest) > 0 {
		return false, errors.New("upstream: a parameter that has no end")
	}
	switch {
	case name == "client_encoding" && !strings.EqualFold(value, "UTF8") && value != "UNICODE": // a name of UTF8 that the server leaves as it was set
		return false, fmt.Errorf("upstream: client_encoding is %s: the gateway reads UTF8 alone", value)
	case name == "standard_conforming_strings" && value != "on":
		return false, errors.New("upstream: standard_conforming_strings is off")
	case name == "server_version":
		c.serverVersion = value
	case name == "is_superuser" || name == "session_authorization":
		who := &c.superuser
		if name != "is_superuser" {
			who = &c.authorization
		}
		if *who != "" && *who != value {
			return false, errors.New("upstream: the session has become another role's")
		}
		*who = value
	}
	if reported[name] {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.settings == nil {
			c.settings = map[string]string{}
		}
		c.settings[name] = value
	}
	return reported[name], nil
}

func readMessage(r io.Reader) (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > maxMessage {
		return 0, nil, fmt.Errorf("upstream: a message of %d bytes", n)
	}
	b := make([]byte, n-4)
	_, err := io.ReadFull(r, b)
	return head[0], b, err
}

// frame puts a head before a message's body.
func frame(kind byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	return append(b, body...)
}
