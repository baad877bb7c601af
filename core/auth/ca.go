package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/internal/keyfile"
)

// CA signs the SSH certificates that open the gateway. What opens hosts is
// signed by another: who has one of these is a stranger there.
type CA struct {
	signer ssh.Signer
	key    []byte // the public one, in its wire form
}

// OpenCA reads the key of a certificate authority, as ssh-keygen writes it. A
// file that is missing is made, with a key of Ed25519.
func OpenCA(path string) (*CA, error) {
	text, err := OpenKey(path, "taskgate user CA")
	if err != nil {
		return nil, err
	}
	c, err := NewCA(text)
	if err != nil {
		return nil, fmt.Errorf("auth: %s: %w", path, err)
	}
	return c, nil
}

// OpenKey reads a private key that nobody else may read. A file that is missing
// is made, with a key of Ed25519 and a comment that says what it is.
func OpenKey(path, comment string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text, err = makeKey(path, comment)
	}
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("auth: %s has mode %04o, so that others have the key: chmod 600 %s", path, m, path)
	}
	return text, nil
}

// NewCA takes the text of a private key, which has no passphrase.
func NewCA(text []byte) (*CA, error) {
	signer, err := ssh.ParsePrivateKey(text)
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		return nil, errors.New("the key of the certificate authority has a passphrase, and nobody is there to type it: `ssh-keygen -p -N ''` takes it off")
	} else if err != nil {
		return nil, errors.New("no private key as ssh-keygen writes it") // what the library says may have some of it
	}
	if signer.PublicKey().Type() == ssh.KeyAlgoRSA { // by SHA-1 otherwise
		if signer, err = ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSASHA512}); err != nil {
			return nil, err
		}
	}
	if err := strong(signer.PublicKey()); err != nil {
		return nil, err
	}
	return &CA{signer, signer.PublicKey().Marshal()}, nil
}

// makeKey makes a key and has it on disk whole, or not at all.
func makeKey(path, comment string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return text, keyfile.Write(path, text)
}

// PublicKey is what knows its certificates.
func (c *CA) PublicKey() ssh.PublicKey { return c.signer.PublicKey() }

// Authority says whether a key is the authority's own.
func (c *CA) Authority(key ssh.PublicKey) bool {
	return key != nil && subtle.ConstantTimeCompare(key.Marshal(), c.key) == 1
}

// strong says why a key is not taken, nil where it is (SA05).
func strong(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		k, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			break
		}
		if n, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && n.N.BitLen() >= 2048 && n.N.BitLen() <= 8192 {
			return nil
		}
		return errors.New("an RSA key has 2048 to 8192 bits: `ssh-keygen -t ed25519` makes a better one")
	}
	return fmt.Errorf("a key of type %s is not taken: `ssh-keygen -t ed25519` makes one that is", key.Type())
}
