package ssh

import (
	"context"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/abi"
)

func parse(text string, posix bool) *abi.Statement {
	return &abi.Statement{Protocol: "ssh", Text: text, Canonical: text, Operations: []abi.Operation{{Verb: "exec", Kind: abi.KindProgram, Object: []string{text}}}}
}
func (ch *channel) files(ctx context.Context, host ssh.Channel) error { return nil }
