package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp: every command says what it does and needs, prints JSON where a
// program may read it, and completes names where its usage has some.
func TestHelp(t *testing.T) {
	noJSON := []string{"serve", "schema", "login", "logout", "psql", "ssh", "dev-idp", "dev-confirm", "plugin new", "audit export", "version"} // another program's, JSON already, or nothing to read
	root, seen := rootCommand(), 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		name := strings.TrimPrefix(c.CommandPath(), "taskgate ")
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c == root || name == "version" {
			return
		}
		seen++
		if len(c.Long) <= len(c.Short) && c.Example == "" {
			t.Errorf("%s: its help does not say what it needs: %q", name, c.Long)
		}
		if c.Runnable() && c.Flags().Lookup("json") == nil && c.PersistentFlags().Lookup("json") == nil && c.InheritedFlags().Lookup("json") == nil && !slices.Contains(noJSON, name) {
			t.Errorf("%s: no --json", name)
		}
		for _, word := range named(c) {
			if strings.Contains("TASK SESSION ID RESOURCE", strings.Trim(word, "[]")) && c.ValidArgsFunction == nil {
				t.Errorf("%s: %s is not completed", name, word)
			}
		}
		for _, flag := range []string{"task", "on", "session", "subject", "resource"} {
			if _, is := c.GetFlagCompletionFunc(flag); c.Flags().Lookup(flag) != nil && !is && name != "plugin test" {
				t.Errorf("%s: --%s is not completed", name, flag)
			}
		}
		for _, word := range []string{"TASK", "RESOURCE", "SESSION", "ID"} {
			if names := named(c); c.Args != nil && slices.Contains(names, word) && c.Args(c, nil) == nil {
				t.Errorf("%s: works without %s", name, word)
			}
		}
	}
	walk(root)
	if seen < 25 {
		t.Errorf("only %d commands are seen", seen)
	}
}

// TestHelpOfAway: what asks a gateway elsewhere does not offer the flags of its
// configuration.
func TestHelpOfAway(t *testing.T) {
	for _, name := range []string{"whoami", "plugin build", "approvals show"} {
		root := rootCommand()
		out := &strings.Builder{}
		root.SetOut(out)
		root.SetArgs(append(strings.Fields(name), "--help"))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "the gateway's configuration") || !strings.Contains(out.String(), "Usage:") {
			t.Errorf("%s:\n%s", name, out)
		}
	}
}
