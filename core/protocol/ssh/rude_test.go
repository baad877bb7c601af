package ssh

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSA06SA07SA08SA13SA15SC13ID14Rude: a client that leaves the protocol, by
// Paramiko and its own packets, is ended or not heard; nobody else notices.
func TestSA06SA07SA08SA13SA15SC13ID14Rude(t *testing.T) {
	g := serve(t, all, func(g *gateway) {
		g.protocol.Ask = func(context.Context, string, string, string) (*Asked, error) {
			return nil, errors.New("no browser here")
		}
	})
	other := g.connect(t)
	for name, want := range map[string]string{
		"channel before a login": "disconnected", "request before a login": "disconnected", "connection service before a login": "disconnected",
		"a login of its own after the login": "disconnected", "another user between two tries": "refused", "another user with the first one's key": "refused",
		"answers: too many": "refused", "answers: none": "refused", "answers: long": "refused", "answers: twice": "refused", "answers: right": "let in",
		"gssapi with a million mechanisms": "sent",
		"more than the window":             "disconnected", "a window beyond all": "disconnected", "packets of no size": "on", "a window of nothing": "on",
		"data of an unknown kind": "on", "data for no channel": "disconnected",
		"a packet that is not whole": "disconnected", "files": "on",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			out, err := exec.CommandContext(ctx, "/usr/bin/python3", "testdata/rude.py", g.port, name).Output()
			if err != nil || strings.TrimSpace(string(out)) != want {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	if got := output(t, other, "echo still"); got.out != "still\n" {
		t.Errorf("%+v", got)
	}
}
