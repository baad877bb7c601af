package postgres

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/taskgate/taskgate/core/gate"
)

// otherVersion is a connection to the server on which it gives itself out for
// another version.
type otherVersion struct {
	net.Conn
	is, says uint32
}

func (o otherVersion) Read(b []byte) (int, error) {
	n, err := o.Conn.Read(b)
	copy(b[:n], bytes.ReplaceAll(b[:n], fmt.Appendf(nil, "%06d", o.is), fmt.Appendf(nil, "%06d", o.says)))
	return n, err
}

type otherVersionDialer struct {
	plainDialer
	is, says uint32
}

func (d otherVersionDialer) Dial(ctx context.Context, r *gate.Resource, login string) (gate.Upstream, error) {
	up, err := d.plainDialer.Dial(ctx, r, login)
	up.Conn = otherVersion{up.Conn, d.is, d.says}
	return up, err
}

// TestUnsupportedServers: a server whose catalogs and grammar are not known is
// refused when a client connects, and the client is told why.
func TestUnsupportedServers(t *testing.T) {
	g := serve(t, &rules{allow: noDelete})
	out, err := server.Psql("postgres", "show server_version_num")
	var is uint32
	if _, e := fmt.Sscan(out, &is); err != nil || e != nil {
		t.Fatal(out, err, e)
	}
	for says, let := range map[uint32]bool{120022: false, 90624: false, 190000: false, is: true} {
		g.Dialer = otherVersionDialer{plainDialer{server.Addr(), "app", g.db}, is, says}
		next := generation(&rules{allow: noDelete})
		next.Resources["shop"].Digest = fmt.Sprint(says)
		g.Swap(next)
		c, err := pgx.Connect(t.Context(), g.url())
		if let {
			if err != nil {
				t.Error(err)
			} else {
				_ = c.Close(t.Context())
			}
			continue
		}
		if want := fmt.Sprintf("PostgreSQL %d is not supported: servers 13 to 18 are", says/10000); code(err) != "08006" || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", says, err)
		}
	}
}
