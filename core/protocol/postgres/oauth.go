package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A client that wants to show its token by SASL OAUTHBEARER (RFC 7628) asks for
// it with this parameter at connect; no server can offer it beside a password,
// since a client that does not know it gives up.
const (
	authSetting = "taskgate.auth"
	oauthbearer = "OAUTHBEARER"
)

// OAuth is what a client without a token is told of where to get one.
type OAuth struct {
	Configuration string // URL of the issuer's discovery document
	Scope         string
}

// errDiscovery is of a client that only asked where to get a token.
var errDiscovery = &fatal{code: "28000", message: "a token is needed", hint: "the client was told which issuer gives one"}

// bearer asks for the token by SASL.
func (c *conn) bearer() (string, error) {
	if _, err := c.client.Write(encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{oauthbearer}})); err != nil {
		return "", err
	}
	b, err := c.credential()
	if err != nil {
		return "", err
	}
	mechanism, rest, ok := cutString(b)
	if !ok || mechanism != oauthbearer || len(rest) < 4 {
		return "", &fatal{code: "08P01", message: "expected " + oauthbearer}
	}
	size, data := int32(binary.BigEndian.Uint32(rest)), rest[4:]
	if size == -1 && len(data) == 0 { // it wants to be asked first
		if _, err := c.client.Write(encode(&pgproto3.AuthenticationSASLContinue{})); err != nil {
			return "", err
		}
		if data, err = c.credential(); err != nil {
			return "", err
		}
	} else if int64(size) != int64(len(data)) {
		return "", &fatal{code: "08P01", message: "malformed " + oauthbearer + " message", hint: "its length is not right"}
	}
	auth, err := parseBearer(data)
	if err != nil {
		return "", err
	}
	if auth == "" {
		return "", c.discover(errDiscovery)
	}
	// What is no bearer token at all goes on as none, and fails as one that is wrong does.
	scheme, token, _ := strings.Cut(auth, " ")
	if token = strings.TrimLeft(token, " "); !strings.EqualFold(scheme, "Bearer") || !bearerToken.MatchString(token) {
		token = ""
	}
	return token, nil
}

var (
	bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)
	bearerKey   = regexp.MustCompile(`^[A-Za-z]+$`)
	bearerValue = regexp.MustCompile(`^[\x21-\x7e \t\r\n]*$`)
)

// parseBearer reads the client's message and gives the value of auth.
func parseBearer(b []byte) (string, error) {
	malformed := func(why string) (string, error) {
		return "", &fatal{code: "08P01", message: "malformed " + oauthbearer + " message", hint: why}
	}
	head, rest, ok := bytes.Cut(b, []byte{1})
	if !ok {
		return malformed("a key value separator is missing")
	}
	switch {
	case bytes.HasPrefix(head, []byte("p=")):
		return malformed("channel binding is not part of " + oauthbearer)
	case bytes.HasPrefix(head, []byte("n,a=")), bytes.HasPrefix(head, []byte("y,a=")): // who one is says the token alone
		return "", &fatal{code: "0A000", message: "an authorization identity is not supported", hint: "the user is the task, and the token says who you are"}
	case string(head) != "n,," && string(head) != "y,,":
		return malformed("it does not begin with n,,")
	}
	auth, found := "", false
	for {
		pair, next, ok := bytes.Cut(rest, []byte{1})
		if !ok {
			return malformed("it has no end")
		}
		if rest = next; len(pair) == 0 {
			break
		}
		key, value, ok := strings.Cut(string(pair), "=")
		if !ok || !bearerKey.MatchString(key) || !bearerValue.MatchString(value) {
			return malformed("a key or its value is not right")
		}
		if key == "auth" {
			if found {
				return malformed("auth is there twice")
			}
			auth, found = value, true
		}
	}
	if len(rest) > 0 {
		return malformed("there is something behind its end")
	}
	if !found {
		return malformed("auth is missing")
	}
	return auth, nil
}

// discover tells the client where to get a token, and why it is not let in.
func (c *conn) discover(why error) error {
	where := c.p.oauth()
	said, err := json.Marshal(struct {
		Status        string `json:"status"`
		Scope         string `json:"scope,omitempty"`
		Configuration string `json:"openid-configuration,omitempty"`
	}{"invalid_token", where.Scope, where.Configuration})
	if err != nil {
		return err
	}
	if _, err := c.client.Write(encode(&pgproto3.AuthenticationSASLContinue{Data: said})); err != nil {
		return err
	}
	if b, err := c.credential(); err != nil {
		return err
	} else if string(b) != "\x01" { // no second try
		return &fatal{code: "08P01", message: "malformed " + oauthbearer + " message", hint: "the end of the exchange is expected"}
	}
	return why
}
