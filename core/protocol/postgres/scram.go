package postgres

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// scram is the client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) as the
// protocol carries it. Any other way to authenticate is refused, since it
// would hand the password to whoever answers.
type scram struct {
	password string

	stage     int // 0 nothing yet, 1 first message sent, 2 proof sent, 3 the server has proved itself
	done      bool
	nonce     string
	bare      string
	signature []byte
}

// The bounds of what a server may ask for.
const (
	minIterations = 4096 // RFC 7677
	maxIterations = 1 << 20
	maxNonce      = 1024
)

// step takes the body of an Authentication message and gives the answer, nil
// where there is none.
func (s *scram) step(body []byte) ([]byte, error) {
	if len(body) < 4 {
		return nil, errors.New("a message that is too short")
	}
	rest := body[4:]
	switch kind := binary.BigEndian.Uint32(body); {
	case kind == 10 && s.stage == 0:
		return s.first(rest)
	case kind == 11 && s.stage == 1:
		return s.proof(string(rest))
	case kind == 12 && s.stage == 2:
		want := "v=" + base64.StdEncoding.EncodeToString(s.signature)
		if !hmac.Equal([]byte(want), rest) {
			return nil, errors.New("the server does not know the password")
		}
		s.stage = 3
		return nil, nil
	case kind == 0 && s.stage == 3:
		s.done = true
		return nil, nil
	case kind == 0:
		return nil, errors.New("the server asks for no password: it has to prove by SCRAM-SHA-256 who it is")
	case kind == 3 || kind == 5:
		return nil, errors.New("the server asks for the password itself or its MD5 hash: set password_encryption to scram-sha-256 there")
	default:
		return nil, fmt.Errorf("the server asks for authentication %d out of place", kind)
	}
}

func (s *scram) first(mechanisms []byte) ([]byte, error) {
	found := false
	for _, m := range bytes.Split(mechanisms, []byte{0}) {
		found = found || string(m) == "SCRAM-SHA-256"
	}
	if !found {
		return nil, errors.New("the server does not offer SCRAM-SHA-256")
	}
	var raw [18]byte
	_, _ = rand.Read(raw[:]) // never fails
	s.nonce = base64.StdEncoding.EncodeToString(raw[:])
	s.bare = "n=,r=" + s.nonce
	text := "n,," + s.bare
	m := append([]byte("SCRAM-SHA-256"), 0)
	m = binary.BigEndian.AppendUint32(m, uint32(len(text)))
	s.stage = 1
	return frame('p', append(m, text...)), nil
}

func (s *scram) proof(server string) ([]byte, error) {
	var nonce, salt, iterations string
	for i, part := range strings.Split(server, ",") {
		switch {
		case i == 0 && strings.HasPrefix(part, "r="):
			nonce = part[2:]
		case i == 1 && strings.HasPrefix(part, "s="):
			salt = part[2:]
		case i == 2 && strings.HasPrefix(part, "i="):
			iterations = part[2:]
		case i < 3:
			return nil, errors.New("the server's first message is malformed")
		}
	}
	rawSalt, err := base64.StdEncoding.DecodeString(salt)
	if err != nil || len(rawSalt) == 0 {
		return nil, errors.New("the server's salt is malformed")
	}
	n, err := strconv.Atoi(iterations)
	if err != nil || n < minIterations || n > maxIterations {
		return nil, fmt.Errorf("the server wants %q iterations: %d to %d are allowed", iterations, minIterations, maxIterations)
	}
	if len(nonce) <= len(s.nonce) || len(nonce) > maxNonce || !strings.HasPrefix(nonce, s.nonce) {
		return nil, errors.New("the server's nonce does not extend the client's")
	}
	salted, err := pbkdf2.Key(sha256.New, s.password, rawSalt, n, sha256.Size)
	if err != nil {
		return nil, err
	}
	final := "c=biws,r=" + nonce
	message := []byte(s.bare + "," + server + "," + final)
	clientKey := mac(salted, []byte("Client Key"))
	stored := sha256.Sum256(clientKey)
	proof := mac(stored[:], message)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	s.signature = mac(mac(salted, []byte("Server Key")), message)
	s.stage = 2
	return frame('p', []byte(final+",p="+base64.StdEncoding.EncodeToString(proof))), nil
}

func mac(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}
