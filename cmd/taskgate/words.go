package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// errWords is of a command that was given other words than its usage names; it
// is said by what it stands in.
var errWords = errors.New("")

var flagsOfUsage = regexp.MustCompile(`\[--?[^]]*\]|--\S+ \S+`)

// named gives the words that a command's usage names, without its flags.
func named(cmd *cobra.Command) []string {
	return strings.Fields(flagsOfUsage.ReplaceAllString(cmd.Use, ""))[1:]
}

// words takes the words that a command's usage names; one in brackets may be
// left out.
func words(cmd *cobra.Command, args []string) error {
	names := named(cmd)
	if len(args) > len(names) {
		said := fmt.Sprintf("%q is one word too many", args[len(names)])
		if len(names) > 0 {
			said += ": what has blanks in it is quoted"
		}
		return fmt.Errorf("%s%w", said, errWords)
	}
	if missing := names[len(args):]; len(missing) > 0 && !strings.HasPrefix(missing[0], "[") {
		return fmt.Errorf("missing: %s%w", strings.Join(missing, ", "), errWords)
	}
	return nil
}

// oneOf takes a word of those that a command lists.
func oneOf(cmd *cobra.Command, args []string) error {
	if err := cobra.OnlyValidArgs(cmd, args); err != nil {
		return hinted{fmt.Errorf("%q is not known here", args[0]), "one of " + strings.Join(cmd.ValidArgs, ", ")}
	}
	return nil
}

// complete sees that files are offered where files are meant, and nowhere else.
func complete(root *cobra.Command) {
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml")
	for _, c := range root.Commands() {
		for _, c := range append(c.Commands(), c) {
			if names := strings.Join(named(c), " "); c.ValidArgsFunction == nil && c.ValidArgs == nil && !strings.Contains(names, "DIR") && !strings.Contains(names, "FILE") {
				c.ValidArgsFunction = cobra.NoFileCompletions
			}
		}
	}
}

// away is the annotation of a command that asks a gateway's API, wherever that
// is, and reads no configuration of it.
const away = "away"

// hideAway leaves what is of a configuration out of the help of commands that
// read none.
func hideAway(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		for at := c; at != nil; at = at.Parent() {
			if at.Annotations[away] != "" {
				for _, name := range []string{"config", "set"} {
					_ = root.PersistentFlags().MarkHidden(name)
				}
			}
		}
		help(c, args)
	})
}
