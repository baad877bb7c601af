package approval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func fixed(secret string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return secret, nil }
}

// TestWebhookSignature: the signature is the specification's, as its libraries
// have it in their own tests.
func TestWebhookSignature(t *testing.T) {
	secret, err := ParseSecret(hookSecret + "\n")
	if err != nil {
		t.Fatal(err)
	}
	const body, want = `{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(body)); got != want {
		t.Error(got)
	}
	h := http.Header{}
	h.Set("Webhook-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	h.Set("Webhook-Timestamp", "1614265330")
	for header, ok := range map[string]bool{want: true, "v1,AAAA " + want: true, "v1a,x v2,y": false, "": false, strings.ToLower(want): false, want + "=": false, strings.TrimPrefix(want, "v1,"): false} {
		h.Set("Webhook-Signature", header)
		if signed(secret, h, []byte(body)) != ok {
			t.Errorf("%q is not %v", header, ok)
		}
	}
	for _, bad := range []string{"", "whsec_", "whsec_c2hvcnQ=", "not base64 at all", "whsec_" + strings.Repeat("QUFB", 22)} {
		if _, err := ParseSecret(bad); err == nil || !strings.Contains(err.Error(), "urandom") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestWebhookCheck: commands go in the clear to nobody, and no URL is more than
// a place.
func TestWebhookCheck(t *testing.T) {
	for u, ok := range map[string]bool{"https://chat.example/x": true, "http://127.0.0.1:1/x": true, "http://[::1]:1": true, "http://localhost:9": true,
		"http://chat.example/x": false, "http://127.0.0.1.example/": false, "ftp://127.0.0.1/": false, "https://": false, "chat.example": false, "https://u:p@chat.example": false, "https://chat.example/#x": false, "http://10.0.0.1/": false, "://": false} {
		if err := (&Webhook{URL: u, Secret: fixed(hookSecret)}).Check(); (err == nil) != ok {
			t.Errorf("%s: %v", u, err)
		}
	}
	if (&Webhook{URL: "https://chat.example"}).Check() == nil {
		t.Error("no secret is no fault")
	}
}

// receiver is a webhook's other end.
type receiver struct {
	*httptest.Server
	got    chan got
	status func(n int) int // of the nth message

	mu sync.Mutex
	n  int
}

type got struct {
	id, kind string
	signed   bool
}

func receive(t *testing.T, status func(n int) int) *receiver {
	r := &receiver{got: make(chan got, 1000), status: status}
	secret, _ := ParseSecret(hookSecret)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var m struct{ Type string }
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil {
			t.Error(err)
		}
		_, sane := sound(req.Header)
		r.mu.Lock()
		r.n++
		n := r.n
		r.mu.Unlock()
		if s := r.status(n); s != 200 {
			w.Header().Set("Location", req.Header.Get("X-Elsewhere"))
			w.WriteHeader(s)
		}
		r.got <- got{req.Header.Get("webhook-id"), m.Type, sane && signed(secret, req.Header, body)}
	}))
	t.Cleanup(r.Close)
	return r
}

func always(n int) func(int) int { return func(int) int { return n } }

// failures are what a Webhooks said for the log.
type failures struct {
	mu  sync.Mutex
	all []string
}

func (f *failures) add(hook, message string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fmt.Sprint(hook, " ", message, " ", err))
}

func (f *failures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.all, "\n")
}

// run starts a Webhooks that tries again at once.
func run(t *testing.T, list ...Webhook) (*Webhooks, *failures) {
	f := &failures{}
	w := &Webhooks{Failed: f.add, pause: time.Millisecond}
	w.Set(list)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w, f
}

// TestWebhookRetries: what is not taken is sent again under its id, and in order.
func TestWebhookRetries(t *testing.T) {
	r := receive(t, func(n int) int { return map[int]int{1: 503, 2: 429, 4: 500}[n] + 200*b2i(n == 3 || n > 4) })
	w, f := run(t, Webhook{URL: r.URL + "/s3cret-path", Secret: fixed(hookSecret)})
	w.Tell("one", time.Now(), 1)
	w.Tell("two", time.Now(), 2)
	var kinds, ids []string
	for range 5 {
		m := <-r.got
		if !m.signed {
			t.Errorf("%+v", m)
		}
		kinds, ids = append(kinds, m.kind), append(ids, m.id)
	}
	if strings.Join(kinds, " ") != "one one one two two" || ids[0] != ids[2] || ids[3] != ids[4] || ids[0] == ids[4] {
		t.Errorf("%v %v", kinds, ids)
	}
	if said := f.String(); strings.Count(said, "\n") < 2 || strings.Contains(said, "s3cret") {
		t.Error(said)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestWebhookGivesUp: what the webhook does not want, or sends elsewhere, is not
// sent again, goes nowhere else, is counted and holds up nothing.
func TestWebhookGivesUp(t *testing.T) {
	elsewhere := receive(t, always(200))
	for _, status := range []int{301, 302, 307, 308, 400, 401, 404, 410} {
		r := receive(t, func(n int) int {
			if n == 1 {
				return status
			}
			return 200
		})
		w, f := run(t, Webhook{URL: r.URL, Secret: fixed(hookSecret)})
		r.Config.Handler = redirecting(r.Config.Handler, elsewhere.URL)
		w.Tell("one", time.Now(), nil)
		w.Tell("two", time.Now(), nil)
		if a, b := <-r.got, <-r.got; a.kind != "one" || b.kind != "two" {
			t.Errorf("%d: %v %v", status, a, b)
		}
		if _, failed := w.Counts(); failed != 1 || !strings.Contains(f.String(), "given up: it answers "+fmt.Sprint(status)) {
			t.Errorf("%d: %d %s", status, failed, f)
		}
	}
	if len(elsewhere.got) > 0 {
		t.Error("a redirect was followed")
	}
}

func redirecting(h http.Handler, to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-Elsewhere", to)
		h.ServeHTTP(w, r)
	})
}

// TestWebhookBounds: a queue takes so much and no more, and nobody waits for it;
// a webhook that does not answer holds up no other, and one that is gone from
// the configuration is not told any more.
func TestWebhookBounds(t *testing.T) {
	stuck := make(chan struct{})
	asked := make(chan struct{}, 1)
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-stuck
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(stuck) })
	r := receive(t, always(200))
	w, f := run(t, Webhook{URL: silent.URL, Secret: fixed(hookSecret)}, Webhook{URL: r.URL, Secret: fixed(hookSecret)})
	for i := range 3 * maxWaiting {
		w.Tell(fmt.Sprint(i), time.Now(), nil)
		if m := <-r.got; m.kind != fmt.Sprint(i) {
			t.Fatal(m)
		}
	}
	<-asked
	if _, failed := w.Counts(); failed != 2*maxWaiting || !strings.Contains(f.String(), "too much waits") {
		t.Errorf("%d %s", failed, f)
	}
	w.Set([]Webhook{{URL: r.URL, Secret: fixed(hookSecret)}})
	w.Tell("after", time.Now(), nil)
	if m := <-r.got; m.kind != "after" {
		t.Error(m)
	}
	if _, failed := w.Counts(); failed != 2*maxWaiting {
		t.Error(failed)
	}
	idle := &Webhooks{}
	idle.Set([]Webhook{{URL: silent.URL, Secret: fixed(hookSecret)}})
	idle.Tell("large", time.Now(), strings.Repeat("x", maxWaitSize))
	if _, failed := idle.Counts(); failed != 1 {
		t.Error(failed)
	}
}

// TestWebhookSecretMended: a secret that cannot be read is tried again.
func TestWebhookSecretMended(t *testing.T) {
	r := receive(t, always(200))
	var mu sync.Mutex
	tries := 0
	w, f := run(t, Webhook{URL: r.URL, Secret: func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries < 3 {
			return "", errors.New("no such file")
		}
		return hookSecret, nil
	}})
	w.Tell("one", time.Now(), nil)
	if m := <-r.got; !m.signed {
		t.Error(m)
	}
	if !strings.Contains(f.String(), "no such file") {
		t.Error(f)
	}
}
