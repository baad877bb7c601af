package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/taskgate/taskgate/internal/pgtest"
)

// bypass is one case of testdata/pg_bypass.json.
type bypass struct {
	ID, Group, Leaks, Expected, Verify, Needs string
	Channel                                   string
	SQL, Setup                                lines
	Protocol                                  bool
	MinPG                                     int `json:"min_pg"`
	MaxPG                                     int `json:"max_pg"`
}

// lines is one text or a list of them.
type lines []string

func (l *lines) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = lines{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

const bypassTask = `
task: app
resources: [bypass]
limits: {statement_timeout: 30s}
show_errors: true
allow:
  - {verbs: [select], tables: [public.users, public.users_eu], columns: [id, name, email, ssn]}
  - {verbs: [select], tables: [public.payments], columns: [id, user_id, card, amount]}
  - {verbs: [select], tables: [public.notes], columns: [id, user_id, body]}
  - {verbs: [select], tables: [public.v_users, public.v_ok, public.v_nested], columns: [id, name, tax_no, label]}
  - {verbs: [select], tables: [public.part, public.part_1], columns: [id, ssn]}
  - {verbs: [insert], tables: [public.notes], columns: [id, user_id, body]}
  - {verbs: [insert], tables: [public.payments], columns: [id, user_id, card, amount]}
  - {verbs: [update], tables: [public.payments], columns: [amount], where: key}
  - {verbs: [update], tables: [public.users], columns: [name], where: key}
mask:
  - {column: public.users.ssn, with: fixed("masked")}
  - {column: public.users.email, with: fixed("masked")}
  - {column: public.payments.card, with: "null"}
  - {column: public.part.ssn, with: fixed("masked")}
`

// elsewhere are cases that are more than a conversation on one connection, and
// the tests that hold them.
var elsewhere = map[string]string{
	"protocol-16": "TestPW03Requests of core/protocol/postgres", "protocol-19": "TestStartup", "protocol-26": "TestTypesOfParameters",
	"protocol-37": "TestPoolers", "protocol-38": "TestTLS",
}

// otherwise are the cases that come out otherwise here, and why.
var otherwise = map[string]string{
	// This task asks reads for no condition: what they give is bounded by its limits.
	"condition-01": "allow", "condition-02": "allow", "condition-03": "allow", "condition-07": "allow", "condition-08": "allow",
	"condition-10": "allow", "condition-11": "allow",
	// COPY is masked as rows are.
	"copy-01": "deny_or_mask", "copy-02": "deny_or_mask", "copy-03": "deny_or_mask", "copy-07": "deny_or_mask", "copy-08": "deny_or_mask",
	// A table that the task does not list.
	"wholerow-34": "deny",
	// The order of masked rows tells of their values.
	"compose-19": "deny",
	// An error is provoked on purpose, or FETCH from a portal is refused; nothing shows either way.
	"protocol-22": "deny_or_mask", "protocol-41": "deny_or_mask",
}

func corpus(t *testing.T) (cases []bypass) {
	t.Helper()
	raw, err := os.ReadFile("../../core/sql/testdata/pg_bypass.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// TestBypass runs the corpus of statements that leak or escape elsewhere: each
// directly, to see that it is alive, then through the gateway with values of
// this run, searching every byte that the client got and everything that the
// gateway has on disk.
func TestBypass(t *testing.T) {
	t.Parallel()
	cases := corpus(t)
	schema, err := os.ReadFile("../../core/sql/testdata/pg_bypass_schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	w := newBypassWorld(t, string(schema), bypassTask)
	counts := map[string]*tally{}
	var rows []matrixRow
	for i := range cases {
		k := &cases[i]
		if k.MinPG > pgtest.Major() || k.MaxPG > 0 && k.MaxPG < pgtest.Major() {
			continue
		}
		n := counts[k.Group]
		if n == nil {
			n = &tally{}
			counts[k.Group] = n
		}
		if k.Protocol {
			if elsewhere[k.ID] != "" {
				n.elsewhere++
				continue
			}
			talk, ok := conversations[k.ID]
			if !ok {
				t.Errorf("%s: nobody runs it", k.ID)
				continue
			}
			rows = append(rows, w.row(k, append([]string{w.judge(t, k, n, w.converse(t, talk))}, slices.Repeat([]string{"-"}, len(ways))...)))
			continue
		}
		w.alive(t, k)
		verdict := w.judge(t, k, n, w.through(t, k))
		rows = append(rows, w.row(k, append([]string{verdict}, w.inForms(t, k)...)))
	}
	var all tally
	for _, group := range slices.Sorted(maps.Keys(counts)) {
		n := counts[group]
		t.Logf("%-12s %v", group, n)
		all.add(n)
	}
	t.Logf("%-12s %v", "all", &all)
	w.disk(t)
	leakMatrix(t, rows, cases)
}

// row is a case's line in the matrix.
func (w *bypassWorld) row(k *bypass, verdicts []string) matrixRow {
	return matrixRow{k.ID, k.Group, channelOf(k), strings.TrimPrefix(k.SQL[len(k.SQL)-1], "PROTO: "), verdicts}
}

type tally struct{ passed, refused, masked, leaks, wrong, elsewhere int }

func (n *tally) add(o *tally) {
	n.passed += o.passed
	n.refused += o.refused
	n.masked += o.masked
	n.leaks += o.leaks
	n.wrong += o.wrong
	n.elsewhere += o.elsewhere
}

func (n *tally) String() string {
	return fmt.Sprintf("%3d as expected (%d refused, %d answered), %d leaks, %d wrong refusals, %d in other tests", n.passed, n.refused, n.masked, n.leaks, n.wrong, n.elsewhere)
}

// bypassWorld is a server with the corpus's schema twice, once with values of
// this run behind a gateway, and the gateway.
type bypassWorld struct {
	pg     *pgtest.Server
	secret []string // every form in which a value of this run could show
	port   string
	tokens []string // of some users, as each may be refused so much a minute
	g      *gatewayWorld
	n      int
}

func newBypassWorld(t *testing.T, schema, task string) *bypassWorld {
	t.Helper()
	pg, err := pgtest.Start(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Stop() })
	w := &bypassWorld{pg: pg}
	if _, err := pg.Psql("postgres", "CREATE ROLE app LOGIN PASSWORD '"+pg.Password+"'; CREATE ROLE boss; GRANT boss TO app;"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"alive": schema, "bypass": w.seed(schema)} {
		if _, err := pg.Psql("postgres", "CREATE DATABASE "+name); err != nil {
			t.Fatal(err)
		}
		if _, err := pg.Psql(name, strings.ReplaceAll(text, ":DBNAME", name)); err != nil {
			t.Fatal(err)
		}
	}
	users := []string{"ada", "bob", "cy", "dora"}
	w.g = startGateway(t, users, map[string]string{"password": pg.Password, "tasks/app.yaml": task}, fmt.Sprintf(
		`  bypass: {protocol: postgres, address: "127.0.0.1:%d", database: bypass, tls: disable, logins: {app: {user: app, password: "file:password", privileged: accepted}}}`, pg.Port))
	w.g.serve(t)
	for _, u := range users {
		w.g.login(t, u)
		w.tokens = append(w.tokens, w.g.token(t, u, "app", "bypass"))
	}
	w.port = w.g.addresses["postgres"]
	return w
}

var (
	cardShape  = regexp.MustCompile(`\d{16}`)
	ssnShape   = regexp.MustCompile(`\d{3}-\d{2}-\d{4}`)
	emailShape = regexp.MustCompile(`\w+@corp`)
)

// seed gives the schema values of this run in the place of its own, and notes
// every form that they could come in.
func (w *bypassWorld) seed(schema string) string {
	known := map[string]string{}
	fresh := func(old string) string {
		if known[old] != "" {
			return known[old]
		}
		v := []byte(old)
		for i, c := range v {
			switch {
			case c >= '0' && c <= '9':
				n, _ := rand.Int(rand.Reader, big.NewInt(10))
				v[i] = '0' + byte(n.Int64())
			case c >= 'a' && c <= 'z':
				n, _ := rand.Int(rand.Reader, big.NewInt(26))
				v[i] = 'a' + byte(n.Int64())
			}
		}
		known[old] = string(v)
		w.secret = append(w.secret, forms(known[old])...)
		return known[old]
	}
	schema = cardShape.ReplaceAllStringFunc(schema, fresh)
	schema = ssnShape.ReplaceAllStringFunc(schema, fresh)
	return emailShape.ReplaceAllStringFunc(schema, func(s string) string { return fresh("zz"+strings.TrimSuffix(s, "@corp")) + "@corp" })
}

// forms are the ways in which an expression could show a value.
func forms(v string) []string {
	sum := md5.Sum([]byte(v))
	reversed := []byte(v)
	slices.Reverse(reversed)
	digits := strings.ReplaceAll(v, "-", "")
	wide := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r - '0' + '０'
		}
		return r
	}, v)
	list := []string{v, strings.ToUpper(v), string(reversed), digits, strings.ReplaceAll(v, "-", "x"), wide, hex.EncodeToString([]byte(v)),
		strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(v)), "="), hex.EncodeToString(sum[:])}
	if n, ok := new(big.Int).SetString(digits, 10); ok {
		list = append(list, fmt.Sprintf("%x", n))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// shows gives a value of this run that is in b, or is empty.
func (w *bypassWorld) shows(b []byte) string {
	for _, s := range w.secret {
		if bytes.Contains(b, []byte(s)) {
			return s
		}
	}
	return ""
}

// alive shows that a case does at the server itself what it is there for.
func (w *bypassWorld) alive(t *testing.T, k *bypass) {
	t.Helper()
	database := "alive"
	if !k.reads() { // one of its own, so that no other sees what it does
		w.n++
		database = fmt.Sprintf("alive%d", w.n)
		w.copy(t, database)
		defer func() {
			for _, text := range []string{"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots", "DROP DATABASE " + database + " WITH (FORCE)"} {
				_, _ = w.pg.Psql("postgres", text)
			}
		}()
	}
	w.setup(t, k, database)
	user := "app"
	if k.Needs == "superuser" {
		user = "postgres"
	}
	c, err := dialServer(w.pg.Addr(), user, w.pg.Password, database)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	for _, text := range k.SQL {
		if err := c.query(w.fill(text, database)); err != nil {
			break // the server ended the session: what came counts
		}
	}
	seen := c.transcript.String()
	if least, timed := strings.CutPrefix(k.Verify, "elapsed>"); timed {
		// What sleeps is seen to sleep; what only computes may be as fast as it likes.
		if n, err := strconv.ParseFloat(least, 64); err != nil || strings.Contains(k.SQL[0], "pg_sleep") && c.took.Seconds() < n {
			t.Errorf("%s is not alive: it took %s", k.ID, c.took)
		}
		return
	}
	if k.Verify != "" {
		if !regexp.MustCompile(w.fill(k.Verify, database)).MatchString(seen) {
			t.Errorf("%s is not alive: %q does not show %s:\n%s", k.ID, k.SQL, k.Verify, seen)
		}
	} else if !strings.Contains(seen, k.Leaks) {
		t.Errorf("%s is not alive: %q does not show %s:\n%s", k.ID, k.SQL, k.Leaks, seen)
	}
}

// reads says whether a case leaves its database as it was.
func (k *bypass) reads() bool {
	return len(k.Setup) == 0 && !slices.ContainsFunc(k.SQL, func(text string) bool {
		word, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		return !slices.Contains([]string{"SELECT", "TABLE", "VALUES", "SHOW"}, word)
	})
}

func (w *bypassWorld) copy(t *testing.T, database string) {
	t.Helper()
	for _, text := range []string{"CREATE DATABASE " + database + " TEMPLATE alive", "GRANT CREATE ON DATABASE " + database + " TO app"} {
		if _, err := w.pg.Psql("postgres", text); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *bypassWorld) fill(text, database string) string {
	return strings.NewReplacer("%DB%", database, "%HOST%", w.pg.Dir, "%PORT%", fmt.Sprint(w.pg.Port), "%PASSWORD%", w.pg.Password).Replace(text)
}

func (w *bypassWorld) setup(t *testing.T, k *bypass, database string) {
	t.Helper()
	for _, text := range k.Setup {
		text, super := strings.CutPrefix(text, "@su ")
		if !super {
			text = "SET SESSION AUTHORIZATION app;" + text
		}
		if _, err := w.pg.Psql(database, w.fill(text, database)); err != nil {
			t.Fatalf("%s: %v", k.ID, err)
		}
	}
	if len(k.Setup) > 0 && database == "bypass" {
		time.Sleep(1500 * time.Millisecond) // the gateway looks every second
	}
}

// through runs a case through the gateway.
func (w *bypassWorld) through(t *testing.T, k *bypass) *wireClient {
	t.Helper()
	w.setup(t, k, "bypass")
	c, err := dialServer(w.port, "app", w.tokens[0], "bypass")
	if err != nil {
		t.Fatalf("%s: %v", k.ID, err)
	}
	defer c.conn.Close()
	for _, text := range k.SQL {
		if err := c.query(w.fill(text, "bypass")); err != nil {
			t.Errorf("%s: the gateway ended the session: %v\n%s", k.ID, err, c.transcript.String())
			break
		}
	}
	return c
}

// converse sends raw messages through the gateway, a batch at a time.
func (w *bypassWorld) converse(t *testing.T, talk [][]pgproto3.FrontendMessage) *wireClient {
	t.Helper()
	c, err := dialServer(w.port, "app", w.tokens[0], "bypass")
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	for _, batch := range talk {
		if c.send(batch...) != nil {
			break
		}
	}
	return c
}

func (w *bypassWorld) judge(t *testing.T, k *bypass, n *tally, c *wireClient) string {
	t.Helper()
	expected := k.wants()
	refused := c.errors > 0
	switch {
	case w.shows(c.got.Bytes()) != "":
		n.leaks++
		t.Errorf("%s leaks %s: %q\n%s", k.ID, w.shows(c.got.Bytes()), k.SQL, c.transcript.String())
	case expected == "deny" && !refused:
		n.leaks++
		t.Errorf("%s is not refused: %q\n%s", k.ID, k.SQL, c.transcript.String())
	case (expected == "allow" || expected == "mask") && refused:
		n.wrong++
		t.Errorf("%s is refused: %q\n%s", k.ID, k.SQL, c.transcript.String())
	default:
		if n.passed++; refused {
			n.refused++
		} else {
			n.masked++
		}
	}
	return map[bool]string{true: "R", false: "S"}[refused]
}

// disk searches everything that the gateway wrote.
func (w *bypassWorld) disk(t *testing.T) {
	t.Helper()
	w.g.written(t, func(path string, b []byte) {
		if s := w.shows(b); s != "" {
			t.Errorf("%s holds %s", path, s)
		}
	})
}

// wireClient speaks the protocol itself and keeps every byte it gets.
type wireClient struct {
	conn       net.Conn
	front      *pgproto3.Frontend
	got        bytes.Buffer
	transcript strings.Builder
	errors     int
	denied     int // of them, by the gateway
	took       time.Duration
}

func dialServer(address, user, password, database string) (*wireClient, error) {
	// The login is pgx's; what comes after it is read here.
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", user, address, database))
	if err != nil {
		return nil, err
	}
	config.Password = password
	c, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		return nil, err
	}
	if err := c.PgConn().SyncConn(context.Background()); err != nil { // on a busy machine it may still read ahead, and would take what comes
		return nil, err
	}
	hijacked, err := c.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	w := &wireClient{conn: hijacked.Conn}
	w.front = pgproto3.NewFrontend(io.TeeReader(w.conn, &w.got), w.conn)
	return w, nil
}

func (c *wireClient) query(text string) error { return c.send(&pgproto3.Query{String: text}) }

// send sends messages at once and reads until what they ask for is answered.
func (c *wireClient) send(batch ...pgproto3.FrontendMessage) error {
	ready := 0
	for _, m := range batch {
		c.front.Send(m)
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync, *pgproto3.FunctionCall:
			ready++
		}
	}
	began := time.Now()
	defer func() { c.took += time.Since(began) }()
	_ = c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := c.front.Flush(); err != nil {
		return err
	}
	for ready > 0 {
		m, err := c.front.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			cells := make([]string, len(m.Values))
			for i, v := range m.Values {
				cells[i] = string(v)
			}
			fmt.Fprintf(&c.transcript, "ROW %s\n", strings.Join(cells, "|"))
		case *pgproto3.CommandComplete:
			fmt.Fprintf(&c.transcript, "TAG %s\n", m.CommandTag)
		case *pgproto3.ErrorResponse:
			if c.errors++; m.Code == "42501" || m.Code == "0A000" {
				c.denied++
			}
			fmt.Fprintf(&c.transcript, "ERR %s %s %s %s %s %s\n", m.Code, m.Message, m.Detail, m.Hint, m.Where, m.InternalQuery)
			if m.Severity == "FATAL" {
				return errors.New(m.Message)
			}
		case *pgproto3.NoticeResponse:
			fmt.Fprintf(&c.transcript, "NOTICE %s %s %s\n", m.Message, m.Detail, m.Hint)
		case *pgproto3.ParameterStatus:
			fmt.Fprintf(&c.transcript, "PS %s=%s\n", m.Name, m.Value)
		case *pgproto3.NotificationResponse:
			fmt.Fprintf(&c.transcript, "NOTIFY %s %s\n", m.Channel, m.Payload)
		case *pgproto3.CopyData:
			fmt.Fprintf(&c.transcript, "COPY %s\n", m.Data)
		case *pgproto3.CopyInResponse:
			c.front.Send(&pgproto3.CopyFail{Message: "no"})
			if err := c.front.Flush(); err != nil {
				return err
			}
		case *pgproto3.ReadyForQuery:
			ready--
		}
	}
	return nil
}

// conversations are the cases that are told in words: batches of messages.
var conversations = map[string][][]pgproto3.FrontendMessage{
	"protocol-01": {{&pgproto3.Query{String: "SELECT 1; SELECT get_ssn(1); DELETE FROM payments"}}},
	"protocol-28": {{&pgproto3.Query{String: "COPY notes(body) FROM STDIN"}, &pgproto3.CopyData{Data: []byte("a\n")}, &pgproto3.Query{String: "SELECT upper(ssn) FROM users"}}},
	"protocol-31": {{&pgproto3.Parse{Query: "SELECT id FROM users WHERE name = $1 AND id = $2"}, &pgproto3.Bind{Parameters: [][]byte{{0xff, 0xfe}}, ParameterFormatCodes: []int16{0, 0, 1}}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-33": {{&pgproto3.Query{String: "SELECT add_note('x')"}}},
	"protocol-03": {{&pgproto3.Parse{Query: "SELECT query_to_xml($1,true,true,'')"}, &pgproto3.Bind{Parameters: [][]byte{[]byte("select ssn from users")}}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-06": {{&pgproto3.Parse{Query: "SELECT ssn FROM users"}, &pgproto3.Bind{ResultFormatCodes: []int16{1}}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-07": {{&pgproto3.Parse{Query: "SELECT id, ssn, email FROM users"}, &pgproto3.Bind{ResultFormatCodes: []int16{0, 1, 1}}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-08": {{&pgproto3.Query{String: "BEGIN"}}, {&pgproto3.Parse{Query: "SELECT id, ssn FROM users"}, &pgproto3.Bind{DestinationPortal: "c1"}, &pgproto3.Execute{Portal: "c1", MaxRows: 1}, &pgproto3.Execute{Portal: "c1", MaxRows: 1}, &pgproto3.Sync{}},
		{&pgproto3.Execute{Portal: "c1", MaxRows: 1}, &pgproto3.Sync{}}},
	"protocol-13": {{&pgproto3.FunctionCall{Function: 16500, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("1")}, ResultFormatCode: 1}}},
	"protocol-21": {{&pgproto3.Parse{Name: "a", Query: "SELECT id FROM users"}, &pgproto3.Bind{PreparedStatement: "a"}, &pgproto3.Execute{}, &pgproto3.Parse{Name: "b", Query: "SELECT upper(ssn) FROM users"}, &pgproto3.Bind{PreparedStatement: "b"}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-23": {{&pgproto3.Query{String: "PREPARE p AS SELECT ssn || '' FROM users"}}, {&pgproto3.Bind{PreparedStatement: "p"}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-24": {{&pgproto3.Query{String: "BEGIN"}}, {&pgproto3.Query{String: "DECLARE c CURSOR FOR SELECT ssn FROM users"}}, {&pgproto3.Describe{ObjectType: 'P', Name: "c"}, &pgproto3.Execute{Portal: "c"}, &pgproto3.Sync{}}},
	"protocol-27": {{&pgproto3.Parse{Query: "SELECT id FROM users WHERE $1::bool OR ssn = '1' LIMIT $2"}, &pgproto3.Bind{Parameters: [][]byte{[]byte("true"), nil}}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-30": {{&pgproto3.Parse{Query: "SELECT id, name FROM users"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{}}},
	"protocol-34": {{&pgproto3.Parse{Query: "SELECT set_config('application_name', ssn, false) FROM users"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-35": {{&pgproto3.Query{String: "UPDATE users SET name = name WHERE id = 1 AND ssn LIKE '1%'"}}},
	"protocol-39": {{&pgproto3.Query{String: "SET client_encoding = SJIS"}}, {&pgproto3.Query{String: "SELECT E'\x95\x5c', ssn FROM users WHERE id=1 --'"}}},
	"protocol-40": {{&pgproto3.Parse{Name: "pp", Query: "SELECT ssn FROM users WHERE id=$1", ParameterOIDs: []uint32{23}}, &pgproto3.Sync{}}, {&pgproto3.Query{String: "EXECUTE pp(1)"}}},
	"protocol-42": {{&pgproto3.Query{String: "INSERT INTO notes(body) VALUES ('zz2'); COMMIT; SELECT 1/0"}}},
	// The old s1 stands: what comes after the error up to Sync is skipped.
	"protocol-22": {{&pgproto3.Parse{Name: "s1", Query: "SELECT ssn FROM users"}, &pgproto3.Sync{}}, {&pgproto3.Parse{Name: "x", Query: "SELECT 1/0"}, &pgproto3.Bind{PreparedStatement: "x"}, &pgproto3.Execute{}, &pgproto3.Close{ObjectType: 'S', Name: "s1"}, &pgproto3.Parse{Name: "s1", Query: "SELECT id FROM users"}, &pgproto3.Sync{}},
		{&pgproto3.Bind{PreparedStatement: "s1"}, &pgproto3.Execute{}, &pgproto3.Sync{}}},
	"protocol-41": {{&pgproto3.Query{String: "BEGIN"}}, {&pgproto3.Parse{Query: "SELECT ssn FROM users"}, &pgproto3.Bind{DestinationPortal: "po"}, &pgproto3.Sync{}}, {&pgproto3.Query{String: "FETCH 1 FROM po"}}},
}
