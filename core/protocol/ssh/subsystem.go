package ssh

import (
	"context"

	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/protocol/ssh/sftp"
)

// filesName is the subsystem whose operations are judged one by one.
const filesName = "sftp"

// files relays SFTP until either side ends. Then the host's server is told that
// nothing more comes, and says how it ended.
func (ch *channel) files(ctx context.Context, host ssh.Channel) error {
	err := sftp.Serve(ctx, ch.c.session, ch.client, host, sftp.Options{Say: func(line string) { ch.say(line) }, Room: &ch.c.room})
	_ = host.CloseWrite()
	return err
}
