package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/server"
	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/core/wasm"
	"github.com/taskgate/taskgate/internal/count"
)

// checked is what `taskgate check --json` prints.
type checked struct {
	OK        bool           `json:"ok"`
	Faults    []strict.Fault `json:"faults"`
	Drift     []string       `json:"drift,omitempty"`
	Accepted  bool           `json:"accepted,omitempty"`
	Tasks     int            `json:"tasks"`
	Rules     int            `json:"rules"`
	Resources int            `json:"resources"`
	Guards    int            `json:"guards"`
	Catalog   string         `json:"catalog,omitempty"`
	Names     []string       `json:"names,omitempty"`    // of the tasks
	Asked     []string       `json:"asked,omitempty"`    // resources, with --live
	Warnings  []string       `json:"warnings,omitempty"` // what does not stop the gateway, and will be in somebody's way
}

func checkCommand() *cobra.Command {
	var live, accept bool
	c := &cobra.Command{Use: "check", Short: "find every fault of configuration, catalog and modules", Args: words,
		Long: "Check finds every fault of configuration, catalog and modules, and opens no resource.\nWith --live it also asks the databases whether they have what the tasks list, and whether they still are as " + catalog.LockFile + " has them; and the hosts, whether they are who they should be, let the gateway in, and have the shell that they are said to have; --accept writes that file.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if accept && !live {
				return hinted{errors.New("--accept needs --live"), "taskgate check --live --accept"}
			}
			out := &checked{Faults: []strict.Fault{}}
			err := check(cmd.Context(), source(cmd), live, accept, out)
			if err != nil {
				out.Faults = strict.Of(err)
			}
			out.OK = err == nil && (len(out.Drift) == 0 || out.Accepted)
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				if e := print(out); e != nil {
					return e
				}
				if !out.OK {
					return errQuiet
				}
				return nil
			}
			for _, line := range out.Drift {
				fmt.Println("changed:", record.Escape(line))
			}
			switch {
			case err != nil:
				return err
			case out.Accepted:
				fmt.Printf("%s is written\n", catalog.LockFile)
			case len(out.Drift) > 0:
				return hinted{fmt.Errorf("the resources are not as %s has them: what is new is refused, what is gone matches nothing", catalog.LockFile), "read the lines above, then take them with: taskgate check --live --accept"}
			}
			for _, w := range out.Warnings {
				fmt.Println("warning:", w)
			}
			fmt.Printf("catalog %s: %s\n", out.Catalog, strings.Join(out.Names, ", "))
			if len(out.Asked) > 0 {
				fmt.Println("asked:", strings.Join(out.Asked, ", "))
			}
			fmt.Printf("ok: %s with %s, %s, %s\n", count.Of(out.Tasks, "task"), count.Of(out.Rules, "rule"), count.Of(out.Resources, "resource"), count.Of(out.Guards, "guard"))
			return nil
		}}
	c.Flags().BoolVar(&live, "live", false, "ask the resources too")
	c.Flags().BoolVar(&accept, "accept", false, "with --live: write "+catalog.LockFile+" as the resources are now")
	c.Flags().Bool("json", false, "for programs")
	return c
}

func check(ctx context.Context, from config.Source, live, accept bool, out *checked) error {
	c, err := config.Load(from)
	if c == nil {
		return err
	}
	if err != nil { // the tasks may have faults too: all at once
		faults := append(strict.Of(err), c.Missing()...)
		if cat, err := catalog.Load(c.Catalog); cat != nil {
			faults = append(faults, strict.Of(err)...)
		}
		return faults.Err()
	}
	if live {
		cat, err := catalog.Read(c.Catalog)
		if err != nil {
			return err
		}
		found, err := server.CheckLive(ctx, c, cat)
		if err != nil {
			return hinted{err, "does each run at its `address`, and is what opens it right?"}
		}
		if err := found.Faults.Err(); err != nil {
			return err
		}
		out.Asked = found.Asked
		if out.Drift = found.Drift; accept && len(found.Drift) > 0 {
			if err := found.Lock.Write(c.Catalog); err != nil {
				return err
			}
			out.Accepted = true
		} else if len(found.Drift) > 0 && len(cat.Missing) > 0 {
			return nil // the drift says it already
		}
	}
	host, done, err := openModules(c)
	if err != nil {
		return err
	}
	defer done()
	gen, cat, err := server.Build(ctx, host, c)
	if err != nil {
		return err
	}
	defer gen.Close()
	for _, t := range cat.Tasks {
		out.Rules += len(t.Rules)
	}
	out.Catalog, out.Names, out.Warnings = c.Catalog, slices.Sorted(maps.Keys(cat.Tasks)), server.Warnings(c, cat)
	out.Tasks, out.Resources, out.Guards = len(cat.Tasks), len(gen.Resources), len(gen.Guards)
	return nil
}

// openModules opens the compiled modules of the gateway, or, where they are not
// ours to write, some that are gone afterwards.
func openModules(c *config.Config) (*wasm.Host, func(), error) {
	dir := filepath.Join(c.Data, "modules")
	if unix.Access(dir, unix.W_OK) == nil {
		if host, err := wasm.Open(dir); err == nil {
			return host, func() { host.Close() }, nil
		}
	}
	dir, err := os.MkdirTemp("", "taskgate-modules")
	if err != nil {
		return nil, nil, err
	}
	host, err := wasm.Open(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return host, func() { host.Close(); os.RemoveAll(dir) }, nil
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{Use: "schema task|gateway", Short: "the JSON Schema of a task file or of gateway.yaml, for editors",
		Long:    "Prints a JSON Schema. An editor that knows YAML completes and checks a task file whose first line names it:\n# yaml-language-server: $schema=task.schema.json",
		Example: "  taskgate schema task > task.schema.json", Args: cobra.MatchAll(words, oneOf), ValidArgs: []string{"task", "gateway"},
		RunE: func(_ *cobra.Command, args []string) error {
			text := catalog.Schema
			if args[0] == "gateway" {
				text = config.Schema
			}
			_, err := os.Stdout.Write(text)
			return err
		}}
}
