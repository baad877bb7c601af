package postgres

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/gate"
)

// hostile is an upstream of the test's own: each connection is handed to serve,
// and all that the gateway sent is kept.
type hostile struct {
	addr string
	tls  any

	mu   sync.Mutex
	sent bytes.Buffer
}

func (h *hostile) Dial(ctx context.Context, _ *gate.Resource, _ string) (gate.Upstream, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.addr)
	return gate.Upstream{Conn: nc, TLS: h.tls, User: "app", Password: server.Password, Database: "shop"}, err
}

// kept is a connection that keeps what is read from it.
type kept struct {
	net.Conn
	h *hostile
}

func (k kept) Read(b []byte) (int, error) {
	n, err := k.Conn.Read(b)
	k.h.mu.Lock()
	defer k.h.mu.Unlock()
	k.h.sent.Write(b[:n])
	return n, err
}

func listenHostile(t *testing.T, serve func(net.Conn)) *hostile {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
				serve(kept{nc, h})
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return h
}

// startupOf reads a startup packet.
func startupOf(nc net.Conn) bool {
	head := make([]byte, 4)
	if _, err := io.ReadFull(nc, head); err != nil {
		return false
	}
	_, err := io.CopyN(io.Discard, nc, int64(binary.BigEndian.Uint32(head))-4)
	return err == nil
}

func authentication(kind uint32, more string) []byte {
	return frame('R', append(binary.BigEndian.AppendUint32(nil, kind), more...))
}

// TestPW05PlaintextUpstream: the password is not told to who asks for it, and
// nothing is told where the resource wants TLS and there is none.
func TestPW05PlaintextUpstream(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	for name, c := range map[string]struct {
		tls    any
		answer []byte
	}{
		"no TLS":                    {&tls.Config{ServerName: "localhost"}, []byte("N")},
		"an error for TLS":          {&tls.Config{ServerName: "localhost"}, []byte("E")},
		"PW02 bytes behind the S":   {&tls.Config{ServerName: "localhost"}, append([]byte("S"), authentication(0, "")...)},
		"cleartext":                 {nil, authentication(3, "")},
		"MD5":                       {nil, authentication(5, "salt")},
		"Kerberos":                  {nil, authentication(7, "")},
		"let in without a proof":    {nil, join(authentication(0, ""), frame('K', make([]byte, 8)), frame('Z', []byte("I")))},
		"ready without a word":      {nil, frame('Z', []byte("I"))},
		"an error of a setting":     {nil, frame('E', []byte("SERROR\x00VERROR\x00C22023\x00Mlook here\x00\x00"))},
		"a parameter before it":     {nil, frame('S', []byte("server_version\x0018\x00"))},
		"another mechanism":         {nil, authentication(10, "SCRAM-SHA-1\x00\x00")},
		"only channel binding":      {nil, authentication(10, "SCRAM-SHA-256-PLUS\x00\x00")},
		"a mechanism within a name": {nil, authentication(10, "XSCRAM-SHA-256\x00\x00")},
	} {
		h := listenHostile(t, func(nc net.Conn) {
			if c.tls != nil {
				if _, err := io.ReadFull(nc, make([]byte, 8)); err != nil {
					return
				}
			} else if !startupOf(nc) {
				return
			}
			_, _ = nc.Write(c.answer)
			_, _ = io.Copy(io.Discard, nc)
		})
		h.tls = c.tls
		g.Dialer = h
		conn, err := pgx.Connect(t.Context(), g.url())
		if err == nil {
			_ = conn.Close(t.Context())
		}
		if code(err) != "08006" || strings.Contains(err.Error(), server.Password) {
			t.Errorf("%s: %v", name, err)
		}
		g.quiet(t)
		h.mu.Lock()
		sent := h.sent.String()
		h.mu.Unlock()
		if strings.Contains(sent, server.Password) || c.tls != nil && strings.Contains(sent, "app") {
			t.Errorf("%s: it was sent %q", name, sent)
		}
	}
	g.Dialer = dialer{database: g.db}
	if out := g.psql(t, "select 'the next one';\n"); !strings.Contains(out, "the next one") {
		t.Error(out)
	}
}

// TestPW36HostileScram: a server that does not know the password cannot get
// past the proof that it does, nor make the gateway work for it.
func TestPW36HostileScram(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	salt := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
	first := func(format string) func(nonce string) []byte {
		return func(nonce string) []byte {
			return authentication(11, strings.ReplaceAll(strings.ReplaceAll(format, "NONCE", nonce), "SALT", salt))
		}
	}
	fine := first("r=NONCEmore,s=SALT,i=4096")
	for name, c := range map[string]struct {
		first func(nonce string) []byte // what follows the client's first message
		final []byte                    // and its proof; nil where none may come
	}{
		"no iterations":               {first("r=NONCEmore,s=SALT,i=0"), nil},
		"too few iterations":          {first("r=NONCEmore,s=SALT,i=1000"), nil},
		"iterations without end":      {first("r=NONCEmore,s=SALT,i=2147483648"), nil},
		"more iterations than fit":    {first("r=NONCEmore,s=SALT,i=99999999999999999999"), nil},
		"negative iterations":         {first("r=NONCEmore,s=SALT,i=-4096"), nil},
		"iterations that are none":    {first("r=NONCEmore,s=SALT,i=x"), nil},
		"a nonce that adds nothing":   {first("r=NONCE,s=SALT,i=4096"), nil},
		"a nonce of its own":          {first("r=mine,s=SALT,i=4096"), nil},
		"a nonce that is too long":    {first("r=NONCE" + strings.Repeat("x", 5000) + ",s=SALT,i=4096"), nil},
		"no salt":                     {first("r=NONCEmore,s=,i=4096"), nil},
		"a salt that is none":         {first("r=NONCEmore,s=!!,i=4096"), nil},
		"nothing at all":              {first(""), nil},
		"an extension in front":       {first("m=x,r=NONCEmore,s=SALT,i=4096"), nil},
		"in another order":            {first("s=SALT,r=NONCEmore,i=4096"), nil},
		"in before the proof":         {func(string) []byte { return join(authentication(0, ""), frame('Z', []byte("I"))) }, nil},
		"the end before the middle":   {func(string) []byte { return authentication(12, "v=") }, nil},
		"begun again":                 {func(string) []byte { return authentication(10, "SCRAM-SHA-256\x00\x00") }, nil},
		"in without the signature":    {fine, join(authentication(0, ""), frame('Z', []byte("I")))},
		"a signature of nothing":      {fine, join(authentication(12, "v="), authentication(0, ""))},
		"somebody else's signature":   {fine, join(authentication(12, "v="+base64.StdEncoding.EncodeToString(make([]byte, 32))), authentication(0, ""))},
		"an error for a signature":    {fine, join(authentication(12, "e=other-error"), authentication(0, ""))},
		"then asked for the password": {fine, authentication(3, "")},
	} {
		h := listenHostile(t, func(nc net.Conn) {
			if !startupOf(nc) {
				return
			}
			_, _ = nc.Write(authentication(10, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"))
			_, body, err := readMessage(nc)
			if err != nil {
				return
			}
			_, nonce, _ := strings.Cut(string(body), ",r=")
			_, _ = nc.Write(c.first(nonce))
			if kind, _, err := readMessage(nc); err == nil {
				if c.final == nil {
					t.Errorf("%s: answered by %q", name, kind)
				}
				_, _ = nc.Write(c.final)
			}
			_, _ = io.Copy(io.Discard, nc)
		})
		g.Dialer = h
		conn, err := pgx.Connect(t.Context(), g.url())
		if err == nil {
			_ = conn.Close(t.Context())
		}
		if code(err) != "08006" {
			t.Errorf("%s: %v", name, err)
		}
		g.quiet(t)
	}
}

// proves is a server's side of SCRAM that knows the password, in pieces of that
// many bytes, and then whatever comes.
func proves(nc net.Conn, piece int, then []byte) error {
	write := func(b []byte) error {
		for len(b) > 0 {
			n := min(piece, len(b))
			if _, err := nc.Write(b[:n]); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	}
	if !startupOf(nc) {
		return io.EOF
	}
	if err := write(authentication(10, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00")); err != nil {
		return err
	}
	_, body, err := readMessage(nc)
	if err != nil {
		return err
	}
	name, rest, _ := strings.Cut(string(body), "\x00")
	bare := strings.TrimPrefix(rest[4:], "n,,")
	_, nonce, ok := strings.Cut(bare, ",r=")
	if name != "SCRAM-SHA-256" || !ok {
		return fmt.Errorf("%q", body)
	}
	salt := []byte("0123456789abcdef")
	first := "r=" + nonce + "more,s=" + base64.StdEncoding.EncodeToString(salt) + ",i=4096"
	if err := write(authentication(11, first)); err != nil {
		return err
	}
	if _, body, err = readMessage(nc); err != nil {
		return err
	}
	without, _, ok := strings.Cut(string(body), ",p=")
	if !ok || !strings.HasPrefix(without, "c=biws,") {
		return fmt.Errorf("%q", body)
	}
	salted, err := pbkdf2.Key(sha256.New, server.Password, salt, 4096, 32)
	if err != nil {
		return err
	}
	sign := func(key, data []byte) []byte { h := hmac.New(sha256.New, key); h.Write(data); return h.Sum(nil) }
	v := sign(sign(salted, []byte("Server Key")), []byte(bare+","+first+","+without))
	return write(join(authentication(12, "v="+base64.StdEncoding.EncodeToString(v)), authentication(0, ""), then))
}

// TestPW36SplitMechanisms: the real exchange in pieces of a byte passes, and
// what may come behind it is still held against what may.
func TestPW36SplitMechanisms(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	key := frame('K', []byte("\x00\x00\x00\x07keys"))
	for name, c := range map[string]struct {
		then []byte
		in   bool
	}{
		"as a server does it":      {join(frame('S', []byte("server_version\x0018.0\x00")), key, frame('Z', []byte("I"))), true},
		"no key":                   {frame('Z', []byte("I")), true},
		"a key that is too short":  {join(frame('K', []byte("abc")), frame('Z', []byte("I"))), false},
		"in a transaction":         {join(key, frame('Z', []byte("T"))), false},
		"ready without a status":   {join(key, frame('Z', nil)), false},
		"asked again":              {authentication(3, ""), false},
		"rows":                     {frame('D', []byte("\x00\x00")), false},
		"another encoding":         {frame('S', []byte("client_encoding\x00SJIS\x00")), false},
		"backslashes that quote":   {frame('S', []byte("standard_conforming_strings\x00off\x00")), false},
		"a parameter without end":  {frame('S', []byte("server_version\x0018")), false},
		"a length that cannot be":  {[]byte("S\x00\x00\x00\x03"), false},
		"a length without measure": {[]byte("S\xff\xff\xff\xff"), false},
	} {
		met := make(chan error, 9)
		h := listenHostile(t, func(nc net.Conn) {
			met <- proves(nc, 1, c.then)
			_, _ = io.Copy(io.Discard, nc)
		})
		first := true
		g.Dialer = dialFunc(func(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
			if !first { // the schema is read from the real server
				return dialer{database: g.db}.Dial(ctx, r, login)
			}
			first = false
			return h.Dial(ctx, r, login)
		})
		conn, err := pgx.Connect(t.Context(), g.url())
		if (err == nil) != c.in {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-met; err != nil && c.in {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = conn.PgConn().Conn().Close()
		}
		g.quiet(t)
	}
}

type dialFunc func(context.Context, *gate.Resource, string) (gate.Upstream, error)

func (f dialFunc) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	return f(ctx, r, login)
}

// TestPW15Lengths: no length wraps into another one, of a message or of what is
// in it, and none is believed before the bytes are there.
func TestPW15Lengths(t *testing.T) {
	lengths := []uint32{3, 1<<30 + 1, 1 << 31, 1<<32 - 4, 1<<32 - 1}
	g := serve(t, &rules{allow: noDelete})
	for _, kind := range []byte("QPBDESXdp") {
		for _, n := range lengths {
			nc := g.in(t)
			if _, err := nc.Write(append(binary.BigEndian.AppendUint32([]byte{kind}, n), "select 1\x00"...)); err != nil {
				t.Fatal(err)
			}
			_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
			all, err := io.ReadAll(nc)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() || !bytes.Contains(all, []byte("FATAL")) {
				t.Errorf("%c of length %d: %q %v", kind, n, all, err)
			}
			nc.Close()
		}
	}
	huge := "\x7f\xff\xff\xff"
	for name, b := range map[string][]byte{
		"a parameter":                frame('B', []byte("\x00\x00\x00\x00\x00\x01"+huge+"x\x00\x00")),
		"parameters whose sum wraps": frame('B', []byte("\x00\x00\x00\x00\x00\x03"+"\x7f\xff\xff\xff"+"\x7f\xff\xff\xff"+"\x00\x00\x00\x02"+"xx\x00\x00")),
		"formats":                    frame('B', []byte("\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00")),
		"result formats":             frame('B', []byte("\x00\x00\x00\x00\x00\x00\xff\xff")),
		"types":                      frame('P', []byte("\x00select 1\x00\xff\xff")),
	} {
		nc := g.in(t)
		if _, err := nc.Write(join(b, sync_())); err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(nc)
		if !bytes.Contains(all, []byte("FATAL")) {
			t.Errorf("%s: %q", name, all)
		}
	}
	// From the server: a row, data and anything else.
	for _, kind := range []byte("DTEN") {
		for _, n := range lengths {
			g.Dialer = &rude{dialer: dialer{database: g.db}, answer: append(binary.BigEndian.AppendUint32([]byte{kind}, n), "xxxx"...), hangUp: true}
			nc := g.in(t)
			if _, err := nc.Write(query("select 1")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, nc); err != nil {
				t.Errorf("%c of length %d: the session hangs: %v", kind, n, err)
			}
			nc.Close()
			g.quiet(t)
		}
	}
	g.Dialer = dialer{database: g.db}
	if out := g.psql(t, "select 'the next one';\n"); !strings.Contains(out, "the next one") {
		t.Error(out)
	}
}
