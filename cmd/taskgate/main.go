// Command taskgate is the gateway and what operates it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "dev"

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// errQuiet ends with status 1 where everything has been said.
var errQuiet = errors.New("")

// faultStatus is the annotation of a command whose status for a fault is another
// than 1.
const faultStatus = "fault-status"

func rootCommand() *cobra.Command {
	root := &cobra.Command{Use: "taskgate", Short: "access for a named task, judged by sandboxed guards, recorded", Version: version,
		SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().StringP("config", "c", "gateway.yaml", "the gateway's configuration")
	root.PersistentFlags().StringArray("set", nil, "KEY.KEY=VALUE lies over the file, as TASKGATE_KEY__KEY does")
	root.AddCommand(serveCommand(), checkCommand(), schemaCommand(), reloadCommand(), statusCommand(), killCommand(), explainCommand(), compileCommand(),
		approvalsCommand(), decideCommand("approve", "approve a request: what it holds runs once enough people have"), decideCommand("deny", "deny a request: what it holds does not run"),
		sessionsCommand(), replayCommand(), auditCommand(), pluginCommand(),
		loginCommand(), whoamiCommand(), tokenCommand(), psqlCommand(), sshCommand(), sshConfigCommand(), sshCertificateCommand(), logoutCommand(), devIDPCommand(), devConfirmCommand(),
		&cobra.Command{Use: "version", Short: "the version of this program", Args: words, Annotations: map[string]string{away: "yes"}, Run: func(*cobra.Command, []string) { fmt.Println("taskgate version " + version) }})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagFault(err) })
	complete(root)
	hideAway(root)
	return root
}

func main() {
	root := rootCommand()
	root.InitDefaultCompletionCmd()
	called, err := root, stranger(root, os.Args[1:])
	if err == nil {
		called, err = root.ExecuteC()
	}
	if errors.Is(err, errQuiet) {
		os.Exit(1)
	}
	if err != nil {
		if err.Error() == context.Canceled.Error() { // ctrl-C, and nothing that failed beside it
			err = errors.New("interrupted")
		}
		said, near, _ := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
		for line := range strings.Lines(said) {
			fmt.Fprintf(os.Stderr, "taskgate: %s\n", strings.TrimRight(line, "\n"))
		}
		var h hinted
		switch {
		case errors.As(err, &h):
			fmt.Fprintf(os.Stderr, "hint: %s\n", h.hint)
		case near != "":
			fmt.Fprintf(os.Stderr, "hint: did you mean %s?\n", strings.Join(strings.Fields(near), " or "))
		case called == root && strings.HasPrefix(said, "unknown command"):
			fmt.Fprintln(os.Stderr, "hint: `taskgate --help` lists the commands")
		case called != nil && (errors.Is(err, errWords) || strings.HasPrefix(err.Error(), "required flag") || strings.HasPrefix(err.Error(), "unknown")):
			fmt.Fprintf(os.Stderr, "usage: %s\n", called.UseLine())
		case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(err.Error(), "config: open"):
			fmt.Fprintln(os.Stderr, "hint: name the gateway's configuration with -c FILE")
		}
		status := 1
		if called != nil {
			if n, err := strconv.Atoi(called.Annotations[faultStatus]); err == nil {
				status = n
			}
		}
		os.Exit(status)
	}
}
