package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/devidp"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/store"
)

// people is a gateway whose task look holds deletes, and people who decide them.
type people struct {
	*world
	*document
	data, control map[string]string // tokens by subject
}

func withPeople(t *testing.T, review string) *people {
	t.Helper()
	w := newWorld(t, func(yaml string) string {
		yaml = strings.Replace(yaml, "may: [allow, deny]", "may: [allow, deny, review]", 1)
		return strings.Replace(yaml, "client_id: taskgate}", `client_id: taskgate, may_assert: ["task:*", dba, lead, audit], roles: {approver: [audit]}}`, 1)
	})
	w.write("tasks/look.yaml", lookTask+"review:\n  - {verbs: [delete], tables: [public.orders], "+review+"}\n")
	w.reload()
	p := &people{world: w, document: newDocument(t), data: map[string]string{}, control: map[string]string{}}
	p.groups(map[string][]string{"ada": {"task:look", "dba"}, "bob": {"dba"}, "eve": {"dba", "lead"}, "tom": {"task:look"}, "max": {"audit"}})
	return p
}

func (p *people) groups(of map[string][]string) {
	users := map[string]devidp.User{}
	for name, groups := range of {
		users[name] = devidp.User{Password: "x", Groups: groups}
	}
	p.idp.SetUsers(users)
}

// api calls a route and holds what it answers against the document.
func (p *people) api(method, route, token, body string, into any) int {
	p.Helper()
	req, err := http.NewRequestWithContext(p.Context(), method, "http://"+p.addr["api"]+route, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	path, _, _ := strings.Cut(route, "?")
	if rest, is := strings.CutPrefix(path, "/v1/approvals/"); is && rest != "watch" {
		path = "/v1/approvals/{id}"
	}
	p.holds(method, path, resp.StatusCode, string(b))
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			p.Fatal(err)
		}
	}
	return resp.StatusCode
}

// logs logs somebody in for a purpose.
func (p *people) logs(subject, purpose string) string {
	p.Helper()
	var d struct{ ID, URL, Code string }
	if n := p.api("POST", "/v1/login", "", `{"for": "`+purpose+`"}`, &d); n != 200 {
		p.Fatal(n, p.log.String())
	}
	if err := devidp.Confirm(p.Context(), d.URL, d.Code, subject, "x"); err != nil {
		p.Fatal(err)
	}
	var got Token
	n := 202
	for n == 202 {
		n = p.api("POST", "/v1/login/wait", "", `{"id": "`+d.ID+`"}`, &got)
	}
	if n != 200 {
		p.Fatal(n, p.log.String())
	}
	return got.Token
}

func (p *people) decides(subject string) string {
	p.Helper()
	if p.control[subject] == "" {
		p.control[subject] = p.logs(subject, "control")
	}
	return p.control[subject]
}

// holding is a command of ada's that waits.
type holding struct {
	*people
	session *gate.Session
	id      string
	cancel  context.CancelCauseFunc
	done    chan error
	ex      *gate.Exchange // once done has given nil
}

func (p *people) hold() *holding {
	p.Helper()
	if p.data["ada"] == "" {
		p.data["ada"] = p.logs("ada", "")
	}
	x, err := p.s.gate.Open(p.Context(), gate.Login{Protocol: "postgres", Task: "look", Resource: "shop", Secret: p.data["ada"], Address: "127.0.0.1:5"})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = x.Close(nil) })
	h := &holding{people: p, session: x, done: make(chan error, 1)}
	text := "delete from orders where id = 1 -- \u202e"
	st := &abi.Statement{Protocol: "postgres", Text: text, Canonical: "DELETE FROM public.orders WHERE id = 1",
		Operations: []abi.Operation{{Verb: "delete", Kind: abi.KindRelation, Object: []string{"public", "orders"}, Effect: abi.EffectWrite, Attrs: abi.HasWhere | abi.WhereKey}}}
	var ctx context.Context
	ctx, h.cancel = context.WithCancelCause(context.Background())
	pending := make(chan string, 1)
	go func() {
		var err error
		h.ex, err = x.Submit(ctx, &abi.Command{Phase: abi.Execute, Time: time.Now().UnixNano(), Session: x.About(), Statement: st}, func(g gate.Pending) error {
			select {
			case pending <- g.ID:
			default:
			}
			return nil
		})
		h.done <- err
	}()
	select {
	case h.id = <-pending:
	case err := <-h.done:
		p.Fatal("it is not held: ", err)
	}
	// The client is told before the first wait, and so before the request can be decided.
	return h
}

func (h *holding) card(subject string) *approval.Card {
	h.Helper()
	var c approval.Card
	if n := h.api("GET", "/v1/approvals/"+h.id, h.decides(subject), "", &c); n != 200 {
		h.Fatalf("%s: %d", subject, n)
	}
	return &c
}

// says decides as somebody, and gives the status.
func (h *holding) says(subject, decision, reason string) int {
	h.Helper()
	code := h.card(subject).Code
	b, _ := json.Marshal(Decision{decision, reason, code})
	return h.api("POST", "/v1/approvals/"+h.id, h.decides(subject), string(b), nil)
}

// ends waits for the command, and gives what its client is told.
func (h *holding) ends() string {
	h.Helper()
	err := <-h.done
	if err == nil {
		return ""
	}
	if d := new(gate.Denied); errors.As(err, &d) {
		return d.Reason.Code + ": " + d.Reason.Message
	}
	return err.Error()
}

func (h *holding) is(want approval.State) *approval.Card {
	h.Helper()
	c := h.card("max")
	if c.State != want {
		h.Errorf("the request is %s (%s), not %s", c.State, c.Why, want)
	}
	return c
}

func TestApprovals(t *testing.T) {
	p := withPeople(t, "by: {groups: [dba], people: 2, within: 10m}, summary: delete an order")
	h := p.hold()
	if held := p.s.Status().Held; held != 1 {
		t.Errorf("%d are held", held)
	}

	t.Run("AP23 what decides", func(t *testing.T) {
		raw, err := p.idp.Token("bob", []string{"dba"})
		if err != nil {
			t.Fatal(err)
		}
		var narrow Token
		if n := p.api("POST", "/v1/tokens", p.data["ada"], `{"task": "look", "resource": "shop", "seconds": 600}`, &narrow); n != 200 {
			t.Fatal(n)
		}
		for name, c := range map[string]struct {
			token string
			want  int
		}{"none": {"", 401}, "the provider's": {raw, 401}, "made up": {"tg_x", 401}, "the data plane's": {p.data["ada"], 403}, "a narrow one": {narrow.Token, 403}} {
			for _, route := range []string{"/v1/approvals", "/v1/approvals/watch?after=0", "/v1/approvals/" + h.id} {
				if n := p.api("GET", route, c.token, "", nil); n != c.want {
					t.Errorf("%s: GET %s: %d", name, route, n)
				}
			}
			if n := p.api("POST", "/v1/approvals/"+h.id, c.token, `{"decision": "approve", "reason": "x", "code": "x"}`, nil); n != c.want {
				t.Errorf("%s: %d", name, n)
			}
		}
		control := p.decides("ada")
		_, err = p.connect(p.addr["postgres"], control, "sslmode=disable")
		if e := new(pgconn.PgError); !errors.As(err, &e) || e.Code != "42501" || !strings.Contains(e.Message, "opens no session") {
			t.Errorf("a control token connects: %v", err)
		}
		if n := p.api("POST", "/v1/tokens", control, `{"task": "look", "resource": "shop", "seconds": 600}`, nil); n != 403 {
			t.Errorf("it makes others: %d", n)
		}
		var me Me
		if n := p.api("GET", "/v1/me", control, "", &me); n != 200 || me.Audience != "control" || len(me.Tasks) != 0 {
			t.Errorf("%d %+v", n, me)
		}
		if n := p.api("GET", "/v1/me", p.data["ada"], "", &me); n != 200 || me.Audience != "data" || len(me.Tasks) != 1 {
			t.Errorf("%d %+v", n, me)
		}
		if n := p.api("POST", "/v1/login", "", `{"for": "all"}`, nil); n != 400 {
			t.Error(n)
		}
		old := p.logs("bob", "control")
		p.ahead.Store(int64(15*time.Minute + time.Second))
		if n := p.api("GET", "/v1/approvals", old, "", nil); n != 401 {
			t.Errorf("an old login decides: %d", n)
		}
		p.ahead.Store(0)
	})

	t.Run("AP17 a GET does nothing", func(t *testing.T) {
		code := h.card("bob").Code
		for _, route := range []string{h.id, h.id + "?decision=approve&reason=x&code=" + code, h.id + "?decision=deny&access_token=" + p.decides("bob")} {
			if n := p.api("GET", "/v1/approvals/"+route, p.decides("bob"), "", nil); n != 200 {
				t.Error(n)
			}
		}
		// From another page the browser sends no header of ours, and there is no cookie.
		for _, url := range []string{"/v1/approvals/" + h.id + "?access_token=" + p.decides("bob"), "/v1/approvals/" + h.id} {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+p.addr["api"]+url, strings.NewReader("decision=approve&reason=x&code="+code+"&access_token="+p.decides("bob")))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.AddCookie(&http.Cookie{Name: "token", Value: p.decides("bob")})
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 401 || len(resp.Cookies()) != 0 {
				t.Errorf("%s: %s", url, resp.Status)
			}
		}
		h.is(gate.Waiting)
	})

	t.Run("AP01 AP12 AP16 who and how", func(t *testing.T) {
		c := h.card("bob")
		if !strings.Contains(c.Text, "\u202e") || len(c.Strange) != 1 || c.Canonical != "DELETE FROM public.orders WHERE id = 1" || c.Subject != "ada" || c.Task != "look" || c.Resource != "shop" || len(c.Operations) != 1 ||
			c.Session != h.session.ID() || c.Needs[0].Summary != "delete an order" || c.Needs[0].People != 2 || time.Until(c.Until) > 10*time.Minute {
			t.Errorf("%+v", c)
		}
		for subject, own := range map[string]bool{"ada": true, "bob": false, "max": false} {
			var list Requests
			if n := p.api("GET", "/v1/approvals?state=all", p.decides(subject), "", &list); n != 200 || len(list.Requests) != 1 || list.Requests[0].Own != own || list.Requests[0].MayVote != (subject == "bob") {
				t.Errorf("%s: %d %+v", subject, n, list)
			}
		}
		var list Requests
		if n := p.api("GET", "/v1/approvals", p.decides("tom"), "", &list); n != 200 || len(list.Requests) != 0 {
			t.Errorf("%d %+v", n, list)
		}
		for _, route := range []string{"/v1/approvals?state=x", "/v1/approvals/watch?after=-1", "/v1/approvals/watch?after=x"} {
			if n := p.api("GET", route, p.decides("bob"), "", nil); n != 400 {
				t.Errorf("%s: %d", route, n)
			}
		}
		for name, c := range map[string]struct {
			who, id, body string
			want          int
		}{
			"one's own":        {"ada", h.id, `{"decision": "approve", "reason": "x", "code": "` + c.Code + `"}`, 403},
			"deny one's own":   {"ada", h.id, `{"decision": "deny", "reason": "x", "code": "` + c.Code + `"}`, 403},
			"not asked":        {"tom", h.id, `{"decision": "approve", "reason": "x", "code": "` + c.Code + `"}`, 404},
			"the role":         {"max", h.id, `{"decision": "approve", "reason": "x", "code": "` + c.Code + `"}`, 403},
			"no such":          {"bob", "nosuchid", `{"decision": "approve", "reason": "x", "code": "` + c.Code + `"}`, 404},
			"another code":     {"bob", h.id, `{"decision": "approve", "reason": "x", "code": "xxxx"}`, 400},
			"no code":          {"bob", h.id, `{"decision": "approve", "reason": "x"}`, 400},
			"no reason":        {"bob", h.id, `{"decision": "approve", "code": "` + c.Code + `"}`, 400},
			"a bad reason":     {"bob", h.id, `{"decision": "approve", "reason": "\u202e", "code": "` + c.Code + `"}`, 400},
			"a long reason":    {"bob", h.id, `{"decision": "approve", "reason": "` + strings.Repeat("x", 1001) + `", "code": "` + c.Code + `"}`, 400},
			"a huge body":      {"bob", h.id, `{"decision": "approve", "reason": "` + strings.Repeat("x", 1<<17) + `"}`, 400},
			"another decision": {"bob", h.id, `{"decision": "APPROVE", "reason": "x", "code": "` + c.Code + `"}`, 400},
			"nothing":          {"bob", h.id, ``, 400},
			"more than asked":  {"bob", h.id, `{"decision": "approve", "reason": "x", "code": "` + c.Code + `", "as": "eve"}`, 400},
		} {
			var said map[string]string
			if n := p.api("POST", "/v1/approvals/"+c.id, p.decides(c.who), c.body, &said); n != c.want || said["error"] == "" {
				t.Errorf("%s: %d %v", name, n, said)
			}
		}
		if c := h.is(gate.Waiting); len(c.Voices) != 0 {
			t.Errorf("%+v", c.Voices)
		}
	})

	t.Run("AP02 AP06 AP24 approved, used, rolled back", func(t *testing.T) {
		var list Requests
		if n := p.api("GET", "/v1/approvals/watch", p.decides("eve"), "", &list); n != 200 || len(list.Requests) != 1 || list.Seq == 0 {
			t.Fatalf("%d %+v", n, list)
		}
		changed := make(chan Requests, 1)
		eve := p.decides("eve")
		go func() {
			var next Requests
			_ = p.api("GET", "/v1/approvals/watch?after="+jsonOf(list.Seq), eve, "", &next)
			changed <- next
		}()
		if n := h.says("bob", "approve", "ticket 12"); n != 200 {
			t.Fatal(n)
		}
		if next := <-changed; len(next.Requests) != 1 || next.Requests[0].Needs[0].Have != 1 || next.Seq <= list.Seq {
			t.Errorf("%+v", next)
		}
		for _, decision := range []string{"approve", "deny"} {
			if n := h.says("bob", decision, "again"); n != 409 {
				t.Errorf("%s: %d", decision, n)
			}
		}
		if n := h.says("eve", "approve", "seen"); n != 200 {
			t.Fatal(n)
		}
		if told := h.ends(); told != "" {
			t.Fatal(told)
		}
		c := h.is(gate.Used)
		if n := h.says("eve", "deny", "too late"); n != 409 {
			t.Error(n)
		}
		if len(c.Voices) != 2 || c.Voices[0].Subject != "bob" || c.Voices[0].Reason != "ticket 12" || c.Ended == nil {
			t.Errorf("%+v", c)
		}
		if err := h.ex.Done(t.Context(), gate.Outcome{State: gate.Open, Tag: "DELETE 1"}); err != nil {
			t.Fatal(err)
		}
		if c := h.is(gate.Used); c.Command != h.ex.Number() || c.Outcome != "pending" {
			t.Errorf("%d %q", c.Command, c.Outcome)
		}
		if err := h.session.Close(nil); err != nil { // before anybody knows
			t.Error(err)
		}
		if c := h.is(gate.Used); c.Outcome != "unknown" {
			t.Errorf("%q", c.Outcome)
		}
		next := p.hold()
		if n := next.says("bob", "approve", "x") + next.says("eve", "approve", "x"); n != 400 {
			t.Fatal(n)
		}
		if told := next.ends(); told != "" {
			t.Fatal(told)
		}
		for state, want := range map[gate.State]string{gate.Open: "pending"} {
			if err := next.ex.Done(t.Context(), gate.Outcome{State: state}); err != nil {
				t.Fatal(err)
			}
			if c := next.is(gate.Used); c.Outcome != want {
				t.Errorf("%q", c.Outcome)
			}
		}
		ended, err := next.session.Submit(t.Context(), &abi.Command{Phase: abi.Execute, Time: time.Now().UnixNano(), Session: next.session.About(),
			Statement: &abi.Statement{Protocol: "postgres", Text: "rollback", Canonical: "ROLLBACK", Operations: []abi.Operation{{Verb: "rollback", Kind: abi.KindTransaction, Effect: abi.EffectRead, Attrs: abi.Floor}}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := ended.Done(t.Context(), gate.Outcome{State: gate.Completed, Tag: "ROLLBACK", Settles: gate.RolledBack, First: next.ex.Number(), Last: next.ex.Number()}); err != nil {
			t.Fatal(err)
		}
		if c := next.is(gate.Used); c.Outcome != "rolled back" {
			t.Errorf("an approval spent on what was rolled back: %q", c.Outcome)
		}
	})

	t.Run("AP10 denied", func(t *testing.T) {
		h := p.hold()
		if n := h.says("bob", "deny", "not on a Friday"); n != 200 {
			t.Fatal(n)
		}
		if told := h.ends(); !strings.HasPrefix(told, "gate.denied: ") || !strings.Contains(told, "by bob: not on a Friday") {
			t.Error(told)
		}
		h.is(gate.Refused)
	})

	t.Run("AP09 the client leaves", func(t *testing.T) {
		h := p.hold()
		h.cancel(gate.ErrCancelled)
		if told := h.ends(); !strings.Contains(told, "cancelled by the client") {
			t.Error(told)
		}
		if c := h.is(gate.Withdrawn); !strings.Contains(c.Why, "cancelled by the client") {
			t.Error(c.Why)
		}
		if n := h.says("bob", "approve", "x"); n != 409 {
			t.Error(n)
		}
	})

	t.Run("AP03 an approver may no longer", func(t *testing.T) {
		h := p.hold()
		if n := h.says("bob", "approve", "x"); n != 200 {
			t.Fatal(n)
		}
		p.groups(map[string][]string{"ada": {"task:look"}, "bob": {"lead"}, "eve": {"dba"}, "max": {"audit"}})
		if n := h.says("eve", "approve", "x"); n != 200 {
			t.Fatal(n)
		}
		if told := h.ends(); !strings.Contains(told, "bob may no longer approve it") {
			t.Error(told)
		}
		h.is(gate.Withdrawn)
	})

	t.Run("AP04 the requester may no longer", func(t *testing.T) {
		p.groups(map[string][]string{"ada": {"task:look"}, "bob": {"dba"}, "eve": {"dba"}, "max": {"audit"}})
		p.control = map[string]string{"max": p.control["max"]} // what bob has lost he has again with the next login
		h := p.hold()
		if n := h.says("bob", "approve", "x"); n != 200 {
			t.Fatal(n)
		}
		p.decides("eve")
		p.groups(map[string][]string{"ada": {"dba"}, "bob": {"dba"}, "eve": {"dba"}, "max": {"audit"}})
		if n := h.says("eve", "approve", "x"); n != 200 {
			t.Fatal(n)
		}
		if told := h.ends(); told == "" {
			t.Error("it ran")
		}
		h.is(gate.Withdrawn)
	})

	var metrics string
	if resp, err := http.Get("http://" + p.addr["api"] + "/metrics"); err == nil {
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		metrics = string(b)
	}
	for _, want := range []string{`taskgate_approvals_total{outcome="used"} 2`, `taskgate_approvals_total{outcome="denied"} 1`, `taskgate_approvals_total{outcome="withdrawn"} 3`, `taskgate_approvals_total{outcome="expired"} 0`, "taskgate_approvals_waiting 0"} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("metrics have no %s", want)
		}
	}
}

func jsonOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// AP16, AP20, AP09: too many of one subject; a gateway that stops.
func TestApprovalsBoundsAndStop(t *testing.T) {
	p := withPeople(t, "by: {groups: [dba], people: 1, within: 10m}")
	var all []*holding
	for range approval.MaxWaitingOne {
		all = append(all, p.hold())
	}
	_, err := all[0].session.Submit(t.Context(), &abi.Command{Phase: abi.Execute, Time: time.Now().UnixNano(), Session: all[0].session.About(), Statement: &abi.Statement{Protocol: "postgres", Text: "x", Canonical: "x",
		Operations: []abi.Operation{{Verb: "delete", Kind: abi.KindRelation, Object: []string{"public", "orders"}, Effect: abi.EffectWrite, Attrs: abi.HasWhere | abi.WhereKey}}}}, func(gate.Pending) error { return nil })
	if d := new(gate.Denied); !errors.As(err, &d) || !strings.Contains(d.Reason.Message, "wait for approval already") || d.Reason.Hint == "" {
		t.Errorf("%v", err)
	}
	if n := all[0].says("bob", "approve", "x"); n != 200 {
		t.Fatal(n)
	}
	if told := all[0].ends(); told != "" {
		t.Error(told)
	}
	for _, h := range all {
		h.session.End(&gate.Ended{Reason: "the gateway is shutting down"})
	}
	for _, h := range all[1:] {
		if told := h.ends(); told == "" {
			t.Error("it ran")
		}
	}
	for _, h := range all {
		_ = h.session.Close(nil)
	}
	p.end()
	rows, err := store.Open(t.Context(), filepath.Join(p.dir, "data", "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for i, h := range all {
		want := gate.Withdrawn
		if i == 0 {
			want = gate.Used
		}
		if c, err := rows.Request(t.Context(), h.id); err != nil || c.State != want {
			t.Errorf("%+v %v", c, err)
		}
	}
	settled := 0
	if err := audit.Read(filepath.Join(p.dir, "data", "audit"), func(r audit.Record) error {
		e, err := gate.ReadEvent(r.Payload)
		if err == nil && e.Kind == gate.EventSettled && e.State == "withdrawn" {
			settled++
		}
		return err
	}); err != nil || settled != len(all) { // seven, and the one that was too many
		t.Errorf("%d %v", settled, err)
	}
}

func TestMaskKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mask.key")
	one, err := maskKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 || st.Size() != 32 {
		t.Errorf("%v %v", st, err)
	}
	two, err := maskKey(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, k := range [][2]string{{"a", ""}, {"b", ""}, {"", "a"}, {"", ""}, {"", "task:a"}} {
		key := string(one(k[0], k[1]))
		if len(key) != 32 || seen[key] || key != string(two(k[0], k[1])) {
			t.Errorf("%q: %x", k, key)
		}
		seen[key] = true
	}
	if string(one("a", "shared")) != string(one("b", "shared")) {
		t.Error("two tasks that share a name mask apart")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := maskKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := maskKey(path); err == nil || !strings.Contains(err.Error(), "32 bytes") {
		t.Error(err)
	}
	if _, err := maskKey(filepath.Join(path, "x")); err == nil {
		t.Error("below a file")
	}
}
