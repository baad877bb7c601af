package main

import (
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guardtest"
)

// TestTokens builds the guard and asks it in the gateway's own sandbox.
func TestTokens(t *testing.T) {
	g := guardtest.Build(t, ".", map[string]any{"bits": 3.2, "pass": []string{"git-upload-pack"}})
	guardtest.Laws(t, g, nil)
	for protocol, verbs := range map[string]map[string]bool{"ssh": {"exec": true, "read": true, "stat": true, "write": false, "setenv": false}, "postgres": {"exec": false, "select": false}} {
		for verb, want := range verbs {
			c := guardtest.Command("look", abi.Operation{Verb: verb, Kind: abi.KindProgram, Object: []string{"x"}})
			c.Statement.Protocol = protocol
			v := guardtest.Ask(t, g, c)
			if v.Decision != abi.Abstain || (len(v.Protect) == 1) != want || want && (!v.Protect[0].Text() || v.Protect[0].Kind != abi.MaskCustom) {
				t.Errorf("%s %s: %+v", protocol, verb, v)
			}
		}
	}
	git := guardtest.Command("look", abi.Operation{Verb: "exec", Kind: abi.KindProgram, Object: []string{"git-upload-pack", "/srv/x"}})
	git.Statement.Protocol = "ssh"
	if v := guardtest.Ask(t, g, git); len(v.Protect) != 0 {
		t.Errorf("%+v", v)
	}
	for word, want := range map[string]string{
		"ghp_16C7e42F292c6912E7710c838347Ae178B4a": "ghp_***",
		"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "wJal***",
		"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9":     "eyJh***",
		"/usr/share/doc/openssh-server/README":     "/usr/share/doc/openssh-server/README",
		"2026-11-26T10:00:00.000000Z":              "2026-11-26T10:00:00.000000Z",
		"aaaaaaaaaaaaaaaaaaaaaaaaaA1":              "aaaaaaaaaaaaaaaaaaaaaaaaaA1",
		"systemd-journald.service":                 "systemd-journald.service",
	} {
		if got := guardtest.Mask(t, g, abi.BatchColumn{Name: "text"}, []byte(word), nil); string(got[0]) != want || got[1] != nil {
			t.Errorf("%q became %q, not %q", word, got[0], want)
		}
	}
}
