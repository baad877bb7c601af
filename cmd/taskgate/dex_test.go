package main

import (
	"context"
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
	case len(users) == 0:
		loginBy(ts, func(url, code string) error { return (*running).Confirm(context.Background(), url, code, args[0]) })
	case *running != nil:
		ts.Check((*running).Restart(users))
	default:
		d, err := dextest.Start(ts.MkAbs("."), p.pg, users, "http://127.0.0.1/callback")
		ts.Check(err)
		ts.Defer(d.Stop)
		ts.Setenv("idp", d.URL)
		*running = d
	}
}
