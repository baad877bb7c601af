package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
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

// stranger is a fault where a command that only has others is given a word that
// is none of them: cobra would print its help, as if all were well.
func stranger(root *cobra.Command, args []string) error {
	c, rest, err := root.Find(args)
	if err != nil || c == root || c.Runnable() || slices.Contains(rest, "--help") || slices.Contains(rest, "-h") {
		return nil
	}
	if c.ParseFlags(rest) != nil || c.Flags().NArg() == 0 {
		return nil
	}
	word, names := c.Flags().Arg(0), []string{}
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() {
			names = append(names, s.Name())
		}
	}
	return hinted{fmt.Errorf("unknown command %q for %q", word, c.CommandPath()), "one of " + strings.Join(names, ", ")}
}

// flagFault says what a flag takes, in words of its own.
func flagFault(err error) error {
	_, of, ok := strings.Cut(err.Error(), "invalid argument ")
	value, of, ok2 := strings.Cut(of, " for ")
	flag, why, ok3 := strings.Cut(of, " flag: ")
	if !ok || !ok2 || !ok3 {
		return err
	}
	num := (*strconv.NumError)(nil)
	switch {
	case errors.As(err, &num) && num.Func == "ParseBool":
		why = "true or false is expected"
	case errors.As(err, &num):
		why = "a number is expected"
	case strings.HasPrefix(why, "time: "):
		why = "a time is expected, as 10s, 5m or 24h"
	}
	return fmt.Errorf("%s: %s, not %s", strings.Trim(flag, `"`), why, value)
}

// resourceOf gives which of a task's resources is meant: the one that is named,
// or the only one.
func resourceOf(task string, resources []string, on string) (string, error) {
	switch {
	case slices.Contains(resources, on):
		return on, nil
	case on != "":
		return "", hinted{fmt.Errorf("task %q does not cover the resource %q", task, on), "it covers " + strings.Join(resources, ", ")}
	case len(resources) == 1:
		return resources[0], nil
	}
	return "", hinted{fmt.Errorf("which resource of %s", strings.Join(resources, ", ")), "name it with --on"}
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
