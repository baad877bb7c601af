package postgres

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/taskgate/taskgate/core/gate/gatetest"
)

// lawClient is pgx, with or without the extended protocol.
type lawClient struct {
	c    *pgx.Conn
	mode pgx.QueryExecMode
}

func (l lawClient) Do(text string) (int, error) {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	rows, err := l.c.Query(ctx, text, l.mode)
	if err != nil {
		return 0, err
	}
	n := 0
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

func (l lawClient) Close() { _ = l.c.Close(context.Background()) }
func (l lawClient) Drop()  { _ = l.c.PgConn().Conn().Close() }

// TestLaws: what every protocol owes the gate, over the simple and the extended
// protocol.
func TestLaws(t *testing.T) {
	for name, mode := range map[string]pgx.QueryExecMode{"simple": pgx.QueryExecModeSimpleProtocol, "extended": pgx.QueryExecModeExec, "prepared": pgx.QueryExecModeCacheStatement} {
		t.Run(name, func(t *testing.T) {
			db := shop(t)
			pg := &Protocol{Plain: true, Log: func(string, string, error) {}}
			p := gatetest.Protocol{Name: "postgres", Serve: pg.Serve, Run: pg.Run, Options: &TaskOptions{Introspect: true},
				Write: func(mark string) string { return "update orders set status = '" + mark + "' where id = 1" },
				State: func(t testing.TB) string {
					out, err := server.Psql(db, "select status from orders where id = 1")
					if err != nil {
						t.Fatal(err)
					}
					return strings.TrimSpace(out)
				},
				Read: "select 1", Many: "select id from orders", Begin: "begin", Commit: "commit"}
			p.Upstream.Addr, p.Upstream.User, p.Upstream.Password, p.Upstream.Database = server.Addr(), "app", server.Password, db
			p.Connect = func(addr, secret string) (gatetest.Client, error) {
				ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
				defer stop()
				host, port, _ := net.SplitHostPort(addr)
				c, err := pgx.Connect(ctx, "postgres://x:"+secret+"@"+net.JoinHostPort(host, port)+"/r?sslmode=disable")
				return lawClient{c, mode}, err
			}
			p.Refused = func(err error) bool {
				var e *pgconn.PgError
				return errors.As(err, &e) && e.Code == "42501"
			}
			gatetest.Laws(t, p)
		})
	}
}
