package main

import (
	"context"
	"net"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/taskgate/taskgate/internal/dextest"
)

// dex is a command of the scripts: see TestScripts.
func (p *parts) dex(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.Value("dex").(**dextest.Server)
	users := map[string][]string{}
	for _, a := range args {
		if name, groups, ok := strings.Cut(a, "="); ok {
			users[name] = strings.Split(groups, ",")
		}
	}
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: dex USER=GROUP,… or dex USER")
	case len(args) == 1 && len(users) == 0:
		loginBy(ts, func(url, code string) error { return (*running).Confirm(context.Background(), url, code, args[0]) })
	case len(args) == 2 && args[1] == "browser":
		port := ts.Getenv("callback")
		loginBy(ts, func(url, _ string) error {
			return (*running).Return(context.Background(), url, args[0], "You can close this page")
		}, "--browser", "--port", port)
	case *running != nil:
		ts.Check((*running).Restart(users))
	default:
		l, err := net.Listen("tcp", "127.0.0.1:0") // where a browser comes back to: Dex wants to know the port
		ts.Check(err)
		callback := l.Addr().String()
		ts.Check(l.Close())
		_, port, err := net.SplitHostPort(callback)
		ts.Check(err)
		ts.Setenv("callback", port)
		d, err := dextest.Start(ts.MkAbs("."), p.pg, users, "http://"+callback+"/callback")
		ts.Check(err)
		ts.Defer(d.Stop)
		ts.Setenv("idp", d.URL)
		*running = d
	}
}
