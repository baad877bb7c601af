package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/grants"
	"github.com/taskgate/taskgate/core/server"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
)

func compileCommand() *cobra.Command {
	var role, on string
	c := &cobra.Command{Use: "compile TASK [--on RESOURCE] [--role NAME]", Short: "a task as a role with column GRANTs, as SQL that can be run", Args: words, ValidArgsFunction: compiles,
		Long: "Compile prints SQL that makes a role and gives it what the task says, and no more than GRANTs can tell apart. What they cannot say (masks, where:, limits, approvals) stands in\ncomments: that the gateway keeps alone. The database is asked for its tables; nothing is changed in it. Whatever the role is refused, the task is refused too.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if role == "" {
				role = "task_" + args[0]
			}
			if err := grants.Role(role); err != nil {
				return hinted{err, "name another with --role"}
			}
			g, err := compile(cmd.Context(), source(cmd), args[0], on, role)
			if err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return print(g)
			}
			fmt.Print(g.Script)
			return nil
		}}
	c.Flags().StringVar(&role, "role", "", "what the role is called; task_TASK unless set")
	c.Flags().StringVar(&on, "on", "", "the resource, if the task has several")
	c.Flags().Bool("json", false, "for programs")
	_ = c.RegisterFlagCompletionFunc("on", resourceNames)
	return c
}

// compiles completes with the tasks of the catalog, once.
func compiles(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return taskNames(cmd, args, begun)
}

func compile(ctx context.Context, from config.Source, task, on, role string) (*grants.Grants, error) {
	c, err := config.Load(from)
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Load(c.Catalog)
	if err != nil {
		return nil, err
	}
	t := cat.Tasks[task]
	if t == nil {
		return nil, hinted{fmt.Errorf("no task %q in %s", task, c.Catalog), "there are " + strings.Join(slices.Sorted(maps.Keys(cat.Tasks)), ", ")}
	}
	if on, err = resourceOf(task, t.Resources, on); err != nil {
		return nil, err
	}
	r := c.Resources[on]
	switch {
	case r == nil:
		return nil, hinted{fmt.Errorf("the resource %q of the task is not in the configuration", on), "`taskgate check` names every fault"}
	case r.Protocol != "postgres":
		return nil, hinted{fmt.Errorf("the resource %s is a host: GRANTs are a database's", on), "`taskgate explain` says what a task for hosts allows"}
	}
	s, err := server.Schema(ctx, r, t)
	if err != nil {
		return nil, hinted{err, askHint}
	}
	g, err := parse.ForServer(s.Major)
	if err != nil {
		return nil, err
	}
	return grants.Of(t, on, role, &sql.Context{Schema: s, Grammar: g, Introspect: true, Extensions: r.Extensions}), nil
}
