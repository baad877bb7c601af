package approval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How webhooks are told.
const (
	maxWaiting  = 256      // messages for one webhook
	maxWaitSize = 16 << 20 // and their bytes
	sendTimeout = 15 * time.Second
	firstPause  = time.Second // before a message is tried again; it doubles
	longPause   = 2 * time.Minute
	giveUp      = 30 * time.Minute // after the first try
)

// Webhook is a place that is told of requests and of what becomes of them.
type Webhook struct {
	URL    string                                    // https, or http on loopback
	Secret func(ctx context.Context) (string, error) // whsec_ and base64; read each time it is needed
	Issuer string                                    // whose subjects may act through it; empty: nobody
}

// Name is what a log calls the webhook: a path may hold a secret.
func (w *Webhook) Name() string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return "?"
	}
	return u.Host
}

// Check says what is wrong with a webhook.
func (w *Webhook) Check() error {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("url: https://HOST/PATH is expected")
	case u.User != nil || u.Fragment != "":
		return errors.New("url: neither a user nor a fragment is expected")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("url: commands would go in the clear: https is expected, but on loopback")
	case w.Secret == nil:
		return errors.New("secret: it is missing")
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (w *Webhook) key(ctx context.Context) ([]byte, error) {
	text, err := w.Secret(ctx)
	if err != nil {
		return nil, err
	}
	return ParseSecret(text)
}

// Webhooks tells webhooks. Tell never waits; Run has to run for anything to be
// sent. What has not been sent when the gateway stops is not kept: the audit log
// is the record, and a webhook no more than news of it.
type Webhooks struct {
	Failed func(hook, message string, err error) // for the log; may be called at any time

	sent, failed atomic.Uint64
	client       *http.Client // of tests
	pause        time.Duration

	mu      sync.Mutex
	hooks   []*hook
	changed chan struct{}
}

// hook is a webhook with what waits for it, in order.
type hook struct {
	mu      sync.Mutex
	about   Webhook
	waiting []*message
	size    int
	wake    chan struct{}
	stop    context.CancelFunc // of its goroutine, nil where it has none yet
}

func (h *hook) webhook() Webhook {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.about
}

type message struct {
	id, kind string
	body     []byte
	first    time.Time // when it was tried first
}

// Set says which webhooks there are from now on. What waits for one that stays
// is still sent.
func (w *Webhooks) Set(list []Webhook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := map[string]*hook{}
	for _, h := range w.hooks {
		old[h.webhook().URL] = h
	}
	w.hooks = nil
	for _, about := range list {
		h := old[about.URL]
		if h == nil {
			h = &hook{wake: make(chan struct{}, 1)}
		}
		delete(old, about.URL)
		h.mu.Lock()
		h.about = about
		h.mu.Unlock()
		w.hooks = append(w.hooks, h)
	}
	for _, h := range old {
		if h.stop != nil {
			h.stop()
		}
	}
	w.poke()
}

// poke tells Run that there are other webhooks.
func (w *Webhooks) poke() {
	if w.changed == nil {
		w.changed = make(chan struct{}, 1)
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Counts gives how many messages arrived, and how many were given up.
func (w *Webhooks) Counts() (sent, failed uint64) { return w.sent.Load(), w.failed.Load() }

// Notify is a Service's Notify: it tells every webhook of the card, as it is then.
func (w *Webhooks) Notify(e Event) {
	w.Tell("approval."+strings.ReplaceAll(e.What, " ", "_"), time.Now(), e.Card)
}

// Tell puts a message into the queue of every webhook. A queue that is full
// does not take it: nobody waits for a webhook.
func (w *Webhooks) Tell(kind string, at time.Time, data any) {
	body, err := json.Marshal(struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      any       `json:"data"`
	}{kind, at.UTC(), data})
	full := map[*hook]*message{}
	w.mu.Lock()
	for _, h := range w.hooks {
		if m := (&message{id: messageID(), kind: kind, body: body}); err != nil || !h.put(m) {
			full[h] = m
		}
	}
	w.mu.Unlock()
	if err == nil {
		err = errors.New("too much waits for it already")
	}
	for h, m := range full {
		w.lose(h, m, err)
	}
}

func (h *hook) put(m *message) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) >= maxWaiting || h.size+len(m.body) > maxWaitSize {
		return false
	}
	h.waiting, h.size = append(h.waiting, m), h.size+len(m.body)
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return true
}

func (w *Webhooks) lose(h *hook, m *message, err error) {
	w.failed.Add(1)
	w.say(h, m, fmt.Errorf("given up: %w", err))
}

func (w *Webhooks) say(h *hook, m *message, err error) {
	if w.Failed != nil {
		about := h.webhook()
		w.Failed(about.Name(), m.kind+" "+m.id, err)
	}
}

// Run sends until ctx is done: each webhook has one goroutine, so that one that
// does not answer holds up no other.
func (w *Webhooks) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	w.mu.Lock()
	w.poke()
	changed := w.changed
	w.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		w.mu.Lock()
		for _, h := range w.hooks {
			if h.stop == nil {
				var its context.Context
				its, h.stop = context.WithCancel(ctx)
				running.Go(func() { w.carry(its, h) })
			}
		}
		w.mu.Unlock()
	}
}

// carry sends what waits for one webhook, in order: a request is told of before
// what became of it. A message that the webhook does not want holds up nothing;
// a webhook that does not answer is tried again.
func (w *Webhooks) carry(ctx context.Context, h *hook) {
	client := w.client
	if client == nil {
		client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, MaxIdleConns: 2, IdleConnTimeout: time.Minute}}
		defer client.CloseIdleConnections()
	}
	its := *client
	its.Timeout = sendTimeout
	its.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	shortest := firstPause
	if w.pause > 0 {
		shortest = w.pause
	}
	pause := shortest
	for {
		m := h.next(ctx)
		if m == nil {
			return
		}
		now := time.Now()
		if m.first.IsZero() {
			m.first = now
		}
		again, err := h.send(ctx, &its, m)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			w.sent.Add(1)
			h.drop(m)
			pause = shortest
			continue
		case !again || now.Sub(m.first) > giveUp:
			w.lose(h, m, err)
			h.drop(m)
			continue
		}
		w.say(h, m, err)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		pause = min(2*pause, longPause)
	}
}

// next waits for a message, and leaves it in the queue.
func (h *hook) next(ctx context.Context) *message {
	for {
		if ctx.Err() != nil {
			return nil
		}
		h.mu.Lock()
		if len(h.waiting) > 0 {
			m := h.waiting[0]
			h.mu.Unlock()
			return m
		}
		h.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-h.wake:
		}
	}
}

// drop takes a message off the queue, if it is still there.
func (h *hook) drop(m *message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) > 0 && h.waiting[0] == m {
		h.waiting, h.size = h.waiting[1:], h.size-len(m.body)
	}
}

// send tries a message once. Again says whether another try may help.
func (h *hook) send(ctx context.Context, c *http.Client, m *message) (again bool, err error) {
	about := h.webhook()
	if err := about.Check(); err != nil {
		return false, err
	}
	secret, err := about.key(ctx)
	if err != nil {
		return true, err // the file may be mended
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, about.URL, bytes.NewReader(m.body))
	if err != nil {
		return false, errors.New("its URL cannot be asked")
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "taskgate")
	req.Header.Set(headerID, m.id)
	req.Header.Set(headerTime, at)
	req.Header.Set(headerSignature, sign(secret, m.id, at, m.body))
	resp, err := c.Do(req)
	if u := (*url.Error)(nil); errors.As(err, &u) { // its text has the whole URL
		return true, u.Err
	} else if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	switch n := resp.StatusCode; {
	case n >= 200 && n < 300:
		return false, nil
	case n >= 500, n == http.StatusTooManyRequests, n == http.StatusRequestTimeout:
		return true, fmt.Errorf("it answers %s", resp.Status)
	default: // redirects too: what is signed goes where the operator has said
		return false, fmt.Errorf("it answers %s", resp.Status)
	}
}
