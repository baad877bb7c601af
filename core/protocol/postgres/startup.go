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
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/door"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/loop"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
)

// The request codes of the first message ("Message Formats").
const (
	codeCancel = 80877102
	codeTLS    = 80877103
	codeGSS    = 80877104
	version30  = 3 << 16
	version32  = 3<<16 | 2
)

// The bounds of what a client may send before it is known.
const (
	maxStartup  = 10_000 // as the server's own
	maxPassword = 64 << 10
	loginTime   = 30 * time.Second
)

// Protocol serves clients of one listener. It implements gate.Protocol.
type Protocol struct {
	TLS   *tls.Config // nil is none; Secure changes it
	Plain bool        // a password may come in the clear: for a listener on loopback alone
	OAuth OAuth
	Log   func(session, what string, err error)
	Ended func(reason string) // is told of each connection, one of Reasons; may be nil

	mu   sync.Mutex
	keys map[string]*conn // sessions by cancel key
	door door.Door

	schemas sync.Map // *resourceState by resource
	probed  probed
	memory  holdings
	loops   loop.Group
	apart   atomic.Bool                                       // new sessions are carried by none of them
	slower  sync.Once                                         // it was said that there are none
	analyze func(*sql.Context, string) (*sql.Analysis, error) // nil is sql.Analyze

	patience time.Duration // until a client is known; 0 is loginTime; under mu
}

// Loop says whether sessions that begin from now on are carried by a loop, where
// this machine has loops. They are unless told otherwise.
func (p *Protocol) Loop(on bool) { p.apart.Store(!on) }

// Secure changes how clients are met, from the next handshake on.
func (p *Protocol) Secure(t *tls.Config, plain bool, from OAuth) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.TLS, p.Plain, p.OAuth = t, plain, from
}

// oauth is what a client is told that has no token.
func (p *Protocol) oauth() OAuth {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.OAuth
}

// secure says how clients are met. TLS is for PostgreSQL alone: who offers
// other protocols, and not this one, has come to the wrong place (X06).
func (p *Protocol) secure() (*tls.Config, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.TLS != nil && len(p.TLS.NextProtos) == 0 {
		p.TLS = p.TLS.Clone()
		p.TLS.NextProtos = []string{alpn}
	}
	return p.TLS, p.Plain
}

// alpn is the name of this protocol where TLS is spoken from the first byte on.
const alpn = "postgresql"

// contain makes a panic in f an error: a fault in one connection ends that one
// connection (X12).
func (p *Protocol) contain(session string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", errPanic, v)
			p.log(session, "panic", fmt.Errorf("%v\n%s", v, debug.Stack()))
		}
	}()
	return f()
}

// errGoodbye ends a connection without a word.
var errGoodbye = errors.New("goodbye")

// fatal is an error that the client is told before the connection ends.
type fatal struct {
	code, message, hint string
	cause               error
}

func (f *fatal) Error() string {
	if f.cause != nil && !strings.HasSuffix(f.message, f.cause.Error()) {
		return f.message + ": " + f.cause.Error()
	}
	return f.message
}

// Serve implements gate.Protocol.
func (p *Protocol) Serve(ctx context.Context, nc net.Conn, g *gate.Gate) error {
	known, err := p.serve(ctx, nc, g)
	if p.Ended != nil {
		p.Ended(reason(err, known))
	}
	if errors.Is(err, errGoodbye) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// serve is Serve; it says whether the client had logged in.
func (p *Protocol) serve(ctx context.Context, nc net.Conn, g *gate.Gate) (bool, error) {
	defer nc.Close()
	guest := p.door.Enter(nc)
	if guest == nil {
		return false, errCrowded
	}
	defer guest.Leave()
	p.mu.Lock()
	patience := p.patience
	p.mu.Unlock()
	if patience == 0 {
		patience = loginTime
	}
	until := time.Now().Add(patience)
	_ = nc.SetDeadline(until)
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Now()) })
	defer stop()
	c := &conn{p: p, client: nc, guest: guest}
	err := p.contain("", func() error { return c.login(ctx, g) })
	in := err == nil
	switch {
	case guest.Leave() && !errors.Is(err, errPanic):
		err = errCrowded
	case !in && !errors.As(err, new(*fatal)) && !time.Now().Before(until):
		err = fmt.Errorf("%w: %w", errLate, err)
	case in:
		_ = nc.SetDeadline(time.Time{})
		stop()
		err = c.run()
	}
	if c.carried[0] != nil {
		defer c.carried[0].Release()
	}
	if c.state != nil {
		c.detach()
	}
	var f *fatal
	if errors.As(err, &f) && c.client != nil && !c.torn.Load() { // else it would be read as the rest of a message
		_ = c.client.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.client.Write(encode(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: f.code, Message: f.message, Hint: f.hint}))
	}
	if c.session != nil {
		if e := c.session.Close(err); err == nil {
			err = e
		}
	}
	if f != nil && (f.code == "54000" || f.code == "53200") && c.begun.Load() {
		linger(c.client)
	}
	return in, err
}

// linger reads and drops what a client is still sending that has to be told what
// was too much: a connection that is closed over what is unread is reset, and its
// client loses the answer.
func linger(nc net.Conn) {
	socket := descriptor(nc)
	if socket == nil {
		return
	}
	b := make([]byte, largeBuffer)
	for end := time.Now().Add(lastWrite); time.Now().Before(end); {
		var n int
		var err error
		if socket.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) }) != nil {
			return
		}
		if err == unix.EAGAIN {
			time.Sleep(5 * time.Millisecond)
		} else if err != nil || n <= 0 {
			return
		}
	}
}

// login brings the connection to the point where the client may send commands.
func (c *conn) login(ctx context.Context, g *gate.Gate) error {
	params, err := c.startup()
	if err != nil {
		return err
	}
	if params == nil {
		return errGoodbye // it was a cancel request
	}
	user, database := params["user"], params["database"]
	if user == "" {
		return &fatal{code: "28000", message: "no user in the startup packet", hint: "the user is the task: psql \"user=TASK dbname=RESOURCE\""}
	}
	if database == "" {
		database = user
	}
	given, err := startupSettings(params)
	if err != nil {
		return err
	}
	ask, byToken := c.password, strings.EqualFold(given[authSetting], oauthbearer)
	if byToken {
		ask = c.bearer
	}
	delete(given, authSetting)
	secret, err := ask()
	if err != nil {
		return err
	}
	c.session, err = g.Open(ctx, gate.Login{Protocol: "postgres", Task: user, Resource: database, Secret: secret, Address: c.client.RemoteAddr().String()})
	if err != nil {
		var d *gate.Denied
		if errors.As(err, &d) {
			hint := "the user is the task, the database the resource"
			if d.Reason.Hint != "" {
				hint += "; " + d.Reason.Hint
			}
			return &fatal{code: "42501", message: d.Error(), hint: hint, cause: err}
		}
		var e *gate.Ended
		if errors.As(err, &e) && e.Shutdown {
			return &fatal{code: "57P03", message: "the gateway is shutting down", cause: err}
		}
		refused := &fatal{code: "28P01", message: "login refused", hint: "the password is a token that holds here and now: `taskgate token --task TASK --on RESOURCE` makes one for 15 minutes, after `taskgate login`", cause: err}
		if byToken {
			refused.code = "28000"
			return c.discover(refused)
		}
		return refused
	}
	if c.guest.Leave() {
		return errCrowded
	}
	c.attach()
	ex, err := c.judgeSettings(ctx, given)
	if err != nil {
		return err
	}
	err = c.connect(ctx, given)
	if ex != nil {
		o := gate.Outcome{State: gate.Completed}
		if err != nil {
			o.State = gate.Failed
		}
		if e := ex.Done(ctx, o); err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}
	if err := c.fit(ctx); err != nil {
		c.upstream.Close()
		return err
	}
	return c.welcome()
}

// startup reads the first messages. It gives nil for a cancel request.
func (c *conn) startup() (map[string]string, error) {
	secure, gss := false, false
	for {
		var head [8]byte
		// Exactly eight bytes: what follows a request for TLS belongs to TLS,
		// and nothing that came in the clear is ever read as if it had not (PW01).
		if _, err := io.ReadFull(c.client, head[:1]); err != nil {
			return nil, errGoodbye
		}
		if head[0] == 0x16 && !secure && !gss { // a TLS record: sslnegotiation=direct
			if err := c.startTLS(&prefixed{Conn: c.client, first: head[:1:1]}, true); err != nil {
				return nil, err
			}
			secure = true
			continue
		}
		if _, err := io.ReadFull(c.client, head[1:]); err != nil {
			return nil, fmt.Errorf("postgres: startup: %w", err)
		}
		size, code := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
		if size < 8 || size > maxStartup {
			return nil, fmt.Errorf("postgres: startup: not what a client of PostgreSQL begins with: %q", head)
		}
		rest := make([]byte, size-8)
		if _, err := io.ReadFull(c.client, rest); err != nil {
			return nil, fmt.Errorf("postgres: startup: %w", err)
		}
		switch {
		case code == codeCancel:
			c.p.cancel(rest)
			return nil, nil
		case code == codeGSS && len(rest) == 0 && !gss && !secure:
			gss = true
			if _, err := c.client.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		case code == codeTLS && len(rest) == 0 && !secure && !c.asked:
			c.asked = true
			if t, _ := c.p.secure(); t == nil {
				if _, err := c.client.Write([]byte{'N'}); err != nil {
					return nil, err
				}
				continue
			}
			if _, err := c.client.Write([]byte{'S'}); err != nil {
				return nil, err
			}
			if err := c.startTLS(c.client, false); err != nil {
				return nil, err
			}
			secure = true
		case code>>16 == 3:
			if _, plain := c.p.secure(); !secure && !plain {
				return nil, &fatal{code: "28000", message: "this gateway takes no password without TLS", hint: "connect with sslmode=verify-full, or at least sslmode=require"}
			}
			return c.parameters(code, rest)
		default:
			return nil, &fatal{code: "0A000", message: fmt.Sprintf("unsupported frontend protocol %d.%d: this gateway speaks 3.0 to 3.2", code>>16, code&0xffff)}
		}
	}
}

func (c *conn) startTLS(raw net.Conn, direct bool) error {
	config, _ := c.p.secure()
	if config == nil {
		return errors.New("postgres: TLS on a listener without a certificate")
	}
	t := tls.Server(under(raw), config)
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("postgres: TLS: %w", err)
	}
	if direct && t.ConnectionState().NegotiatedProtocol != alpn {
		return errors.New("postgres: direct TLS without the ALPN name postgresql")
	}
	c.client = t
	return nil
}

// prefixed gives back a byte that was read to look at it.
type prefixed struct {
	net.Conn
	first []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 && len(b) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// parameters reads a StartupMessage and settles the protocol's version.
func (c *conn) parameters(code uint32, b []byte) (map[string]string, error) {
	params := map[string]string{}
	var unknown []string
	for {
		if len(b) == 0 {
			return nil, &fatal{code: "08P01", message: "the startup packet has no end"}
		}
		if b[0] == 0 {
			if len(b) != 1 {
				return nil, &fatal{code: "08P01", message: "there is something behind the end of the startup packet"}
			}
			break
		}
		key, rest, ok := cutString(b)
		value, rest2, ok2 := cutString(rest)
		if !ok || !ok2 {
			return nil, &fatal{code: "08P01", message: "the startup packet has no end"}
		}
		b = rest2
		if strings.HasPrefix(key, "_pq_.") {
			unknown = append(unknown, key)
			continue
		}
		if _, twice := params[key]; twice {
			return nil, &fatal{code: "08P01", message: fmt.Sprintf("the startup packet has %q twice", key)}
		}
		params[key] = value
	}
	c.version = code
	if code != version30 && code != version32 {
		c.version = version30
		if code > version32 {
			c.version = version32
		}
	}
	if c.version != code || len(unknown) > 0 {
		m := binary.BigEndian.AppendUint32([]byte{'v', 0, 0, 0, 0}, c.version)
		m = binary.BigEndian.AppendUint32(m, uint32(len(unknown)))
		for _, u := range unknown {
			m = append(append(m, u...), 0)
		}
		binary.BigEndian.PutUint32(m[1:], uint32(len(m)-1))
		if _, err := c.client.Write(m); err != nil {
			return nil, err
		}
	}
	if v, ok := params["replication"]; ok && !off(v) {
		return nil, &fatal{code: "0A000", message: "replication connections are refused"}
	}
	return params, nil
}

func off(v string) bool {
	switch strings.ToLower(v) {
	case "false", "off", "no", "0":
		return true
	}
	return false
}

func cutString(b []byte) (string, []byte, bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", nil, false
}

// password asks for the token.
func (c *conn) password() (string, error) {
	if _, err := c.client.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}); err != nil {
		return "", err
	}
	b, err := c.credential()
	if err != nil {
		return "", err
	}
	s, rest, ok := cutString(b)
	if !ok || len(rest) > 0 {
		return "", &fatal{code: "08P01", message: "expected a password"}
	}
	return s, nil
}

// credential reads what a client says of who it is.
func (c *conn) credential() ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.client, head[:]); err != nil {
		return nil, errGoodbye // psql comes back once it has asked for a password
	}
	size := binary.BigEndian.Uint32(head[1:])
	if head[0] != 'p' || size < 5 || size > maxPassword {
		return nil, &fatal{code: "08P01", message: "expected a password"}
	}
	b := make([]byte, size-4)
	if _, err := io.ReadFull(c.client, b); err != nil {
		return nil, fmt.Errorf("postgres: password: %w", err)
	}
	return b, nil
}

// startupSettings gives the settings of a startup packet, in small letters.
func startupSettings(params map[string]string) (map[string]string, error) {
	given := map[string]string{}
	take := func(name, value string) error {
		lower := strings.ToLower(name)
		if lower == authSetting && !strings.EqualFold(value, "password") && !strings.EqualFold(value, oauthbearer) {
			return &fatal{code: "42501", message: fmt.Sprintf("%s %q: password or %s is expected", authSetting, value, strings.ToLower(oauthbearer))}
		}
		if lower == "role" || lower == "session_authorization" { // nobody, and nobody is asked
			return &fatal{code: "42501", message: fmt.Sprintf("the setting %q may not be given at connect", name)}
		}
		if len(value) > 1024 || len(name) > 128 {
			return &fatal{code: "42501", message: fmt.Sprintf("the value of %q is not allowed", name)}
		}
		given[lower] = value // of a name that comes twice in options the last counts, as at the server
		return nil
	}
	if words, err := splitOptions(params["options"]); err != nil {
		return nil, err
	} else {
		for _, w := range words {
			if err := take(w[0], w[1]); err != nil {
				return nil, err
			}
		}
	}
	for name, value := range params {
		switch name {
		case "user", "database", "replication", "options":
		default: // counts more than what stands in options
			if err := take(name, value); err != nil {
				return nil, err
			}
		}
	}
	if v, ok := given["client_encoding"]; ok && !sql.Setting("client_encoding", v) {
		return nil, &fatal{code: "42501", message: fmt.Sprintf("client_encoding %q: this gateway reads UTF8 alone", v), hint: "set PGCLIENTENCODING=UTF8"}
	}
	if v, ok := given["standard_conforming_strings"]; ok && !sql.Setting("standard_conforming_strings", v) {
		return nil, &fatal{code: "42501", message: "standard_conforming_strings has to be on"}
	}
	delete(given, "client_encoding")
	delete(given, "standard_conforming_strings")
	return given, nil
}

// judgeSettings judges what is given at connect as a SET of it would be. What
// every task may set passes as it is; search_path, and what only this task may
// set, is asked for and recorded. It gives the exchange of that, nil where there
// is none.
func (c *conn) judgeSettings(ctx context.Context, given map[string]string) (*gate.Exchange, error) {
	_, task := c.session.Resource()
	if o, ok := taskOptions(task); ok && o.StatementTimeout > 0 {
		asked, ok := given["statement_timeout"]
		if !ok {
			asked = fmt.Sprint(o.StatementTimeout.Milliseconds())
		}
		value, told, ok := sql.Timeout(asked, o.StatementTimeout)
		if !ok {
			return nil, &fatal{code: "22023", message: fmt.Sprintf("invalid value for parameter \"statement_timeout\": %q", asked)}
		}
		given["statement_timeout"], c.told = value, told
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !settingName.MatchString(name) {
			return nil, &fatal{code: "42501", message: fmt.Sprintf("the setting %q may not be given at connect", name)}
		}
		switch value := given[name]; {
		case name == "search_path":
			path, ok := parse.Path(value)
			if !ok {
				return nil, &fatal{code: "22023", message: fmt.Sprintf("invalid value for parameter \"search_path\": %q", value)}
			}
			quoted := make([]string, len(path))
			for i, p := range path {
				if quoted[i] = p; !settingName.MatchString(p) || strings.Contains(p, ".") {
					quoted[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
				}
			}
			given[name] = strings.Join(quoted, ", ")
			texts = append(texts, fmt.Sprintf("SELECT pg_catalog.set_config('search_path', '%s', false)", strings.ReplaceAll(given[name], "'", "''")))
		case !sql.Setting(name, value):
			texts = append(texts, fmt.Sprintf("SET %s TO '%s'", name, strings.ReplaceAll(value, "'", "''")))
		}
	}
	if len(texts) == 0 {
		return nil, nil
	}
	a, err := c.understand(strings.Join(texts, "; "), nil)
	var ex *gate.Exchange
	if err == nil && a.Statement.Incomplete != "" {
		err = &sql.Error{Code: "42501", Message: a.Statement.Incomplete, Offset: -1}
	}
	if err == nil {
		ex, err = c.session.Submit(ctx, &abi.Command{Phase: abi.Execute, Statement: a.Statement}, nil)
	}
	if err != nil {
		if r, ok := refuse("", err); ok {
			return nil, &fatal{code: r.code, message: "at connect: " + r.message, hint: r.hint, cause: err}
		}
		return nil, c.unreachable(err)
	}
	for i := range a.Parts {
		if a.Parts[i].Kind == sql.SetPath {
			c.names.login = a.Parts[i].Path
		}
	}
	return ex, nil
}

// settingName is how the name of a setting looks.
var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$`)

func notice(code, message string) []byte {
	return encode(&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: code, Message: message})
}

// splitOptions reads `-c name=value` and `--name=value`, a backslash escaping
// the next character, and nothing else.
func splitOptions(s string) (list [][2]string, err error) {
	var words []string
	var word []byte
	in := false
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '\\' && i+1 < len(s):
			i++
			word, in = append(word, s[i]), true
		case ch == ' ' || ch >= '\t' && ch <= '\r':
			if in {
				words = append(words, string(word))
			}
			word, in = word[:0], false
		default:
			word, in = append(word, ch), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "-c" && i+1 < len(words):
			i++
			w = words[i]
		case strings.HasPrefix(w, "-c"):
			w = w[2:]
		case strings.HasPrefix(w, "--"):
			w = w[2:]
		default:
			return nil, &fatal{code: "42501", message: fmt.Sprintf("the option %q is not allowed: only -c name=value", w)}
		}
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return nil, &fatal{code: "42501", message: fmt.Sprintf("the option %q is not of the form name=value", w)}
		}
		list = append(list, [2]string{strings.ReplaceAll(name, "-", "_"), value})
	}
	return list, nil
}

func encode(m pgproto3.BackendMessage) []byte {
	b, err := m.Encode(nil)
	if err != nil { // only where a message would be over 1 GB
		return nil
	}
	return b
}

// welcome tells the client that it is in: parameters, the gateway's own cancel
// key, what the grant has to say, and that it may begin.
func (c *conn) welcome() error {
	b := encode(&pgproto3.AuthenticationOk{})
	for _, m := range c.parametersSeen {
		b = append(b, m...)
	}
	c.parametersSeen = nil
	b = append(b, c.p.register(c)...)
	if n := c.session.Notice(); n != "" {
		b = append(b, notice("00000", n)...)
	}
	if c.told != "" {
		b = append(b, notice("01000", c.told)...)
	}
	b = append(b, 'Z', 0, 0, 0, 5, 'I')
	_, err := c.client.Write(b)
	return err
}
