package approval

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What the headers of a signed message are called (standardwebhooks.com, 1.0.0).
const (
	headerID        = "webhook-id"
	headerTime      = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes
	maxSecret    = 64
	maxAge       = 5 * time.Minute // that a signature may be off
	maxMessageID = 128
	maxSignature = 4 << 10 // of the header, which may list several
)

// What a signed message is refused for.
var (
	errUnsigned = errors.New("it is not signed by a webhook that may act")
	errOld      = errors.New("its timestamp is more than five minutes from now")
	errRepeated = errors.New("its webhook-id has been used before")
)

// ParseSecret reads a secret of a webhook: base64 of 24 to 64 bytes, which
// whsec_ may stand before.
func ParseSecret(text string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(text), secretPrefix))
	switch {
	case err != nil:
		return nil, errors.New("a webhook's secret is base64, with whsec_ before it: echo whsec_$(head -c 32 /dev/urandom | base64)")
	case len(b) < minSecret || len(b) > maxSecret:
		return nil, errors.New("a webhook's secret has 24 to 64 bytes, in base64: echo whsec_$(head -c 32 /dev/urandom | base64)")
	}
	return b, nil
}

// sign gives the signature of a message.
func sign(secret []byte, id, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, secret)
	for _, part := range []string{id, ".", timestamp, "."} {
		m.Write([]byte(part))
	}
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// signed says whether one of a message's signatures is by secret.
func signed(secret []byte, h http.Header, body []byte) bool {
	want := []byte(sign(secret, h.Get(headerID), h.Get(headerTime), body))
	ok := false
	for _, s := range strings.Fields(h.Get(headerSignature)) {
		ok = hmac.Equal([]byte(s), want) || ok
	}
	return ok
}

// sound gives the time of a message whose headers can be signed: one of each,
// in the characters that cannot be taken for the dots between them.
func sound(h http.Header) (time.Time, bool) {
	for _, name := range []string{headerID, headerTime, headerSignature} {
		if len(h.Values(name)) != 1 {
			return time.Time{}, false
		}
	}
	id, sec := h.Get(headerID), h.Get(headerTime)
	n, err := strconv.ParseInt(sec, 10, 64)
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
	}
	odd := strings.IndexFunc(id, func(c rune) bool { return !plain(c) }) >= 0
	return time.Unix(n, 0), err == nil && n > 0 && strconv.FormatInt(n, 10) == sec && id != "" && len(id) <= maxMessageID && !odd && len(h.Get(headerSignature)) <= maxSignature
}

func messageID() string {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails
	return "msg_" + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}
