// Command taskgate is the gateway and what operates it.
package main

import (
	"errors"
	"fmt"
	"os"
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

// errQuiet ends with status 1 where everything has been said.
var errQuiet = errors.New("")

func main() {
	root := &cobra.Command{Use: "taskgate", Short: "access for a named task, judged by sandboxed guards, recorded", Version: version,
		SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().StringP("config", "c", "gateway.yaml", "the gateway's configuration")
	root.PersistentFlags().StringArray("set", nil, "KEY.KEY=VALUE lies over the file, as TASKGATE_KEY__KEY does")
	root.AddCommand(serveCommand(), checkCommand(), schemaCommand(), reloadCommand(), statusCommand(), killCommand(), explainCommand(),
		sessionsCommand(), replayCommand(), auditCommand(), pluginCommand(),
		loginCommand(), whoamiCommand(), tokenCommand(), psqlCommand(), logoutCommand(), devIDPCommand(), devConfirmCommand())
	err := root.Execute()
	if errors.Is(err, errQuiet) {
		os.Exit(1)
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(os.Stderr, "taskgate: %s\n", strings.TrimRight(line, "\n"))
		}
		var h hinted
		if errors.As(err, &h) {
			fmt.Fprintf(os.Stderr, "hint: %s\n", h.hint)
		}
		os.Exit(1)
	}
}
