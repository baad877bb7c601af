package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/protocol/postgres"
	"github.com/taskgate/taskgate/core/server"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/wasm"
)

// explained is what `taskgate explain --json` prints.
type explained struct {
	Canonical  string   `json:"canonical,omitempty"`
	Operations []string `json:"operations"`
	Outputs    []string `json:"outputs,omitempty"`
	Incomplete string   `json:"incomplete,omitempty"`
	Error      string   `json:"error,omitempty"`
	Decision   string   `json:"decision"`
	Reasons    []reason `json:"reasons,omitempty"`
}

// reason is why a guard says what it says.
type reason struct {
	Guard   string `json:"guard"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Closest string `json:"closest,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

func explainCommand() *cobra.Command {
	var task, on string
	c := &cobra.Command{Use: "explain --task TASK [--on RESOURCE] 'SQL'", Short: "what a text would do, and whether the task allows it; runs nothing", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := explain(cmd.Context(), source(cmd), task, on, args[0])
			if err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return print(out)
			}
			for _, o := range out.Operations {
				fmt.Println("does      ", o)
			}
			for _, o := range out.Outputs {
				fmt.Println("output    ", o)
			}
			if out.Incomplete != "" {
				fmt.Println("unknown   ", out.Incomplete)
			}
			if out.Error != "" {
				fmt.Println("error     ", out.Error)
			}
			if out.Canonical != "" && out.Decision == abi.Allow.String() {
				fmt.Println("forwarded ", out.Canonical)
			}
			fmt.Println("decision  ", out.Decision)
			for _, r := range out.Reasons {
				for _, line := range []string{r.Message, r.Closest, r.Hint} {
					if line != "" {
						fmt.Println("          ", line)
					}
				}
			}
			return nil
		}}
	c.Flags().StringVar(&task, "task", "", "the task")
	c.Flags().StringVar(&on, "on", "", "the resource, if the task has several")
	c.Flags().Bool("json", false, "for programs")
	_ = c.MarkFlagRequired("task")
	_ = c.RegisterFlagCompletionFunc("task", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, err := config.Load(source(cmd))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cat, err := catalog.Read(c.Catalog)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.Sorted(maps.Keys(cat.Tasks)), cobra.ShellCompDirectiveNoFileComp
	})
	_ = c.RegisterFlagCompletionFunc("on", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, err := config.Load(source(cmd))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.Sorted(maps.Keys(c.Resources)), cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

func explain(ctx context.Context, from config.Source, task, on, text string) (*explained, error) {
	c, err := config.Load(from)
	if err != nil {
		return nil, err
	}
	host, err := wasm.Open(filepath.Join(c.Data, "modules"))
	if err != nil {
		return nil, err
	}
	defer host.Close()
	gen, _, err := server.Build(ctx, host, c)
	if err != nil {
		return nil, err
	}
	defer gen.Close()
	t := gen.Tasks[task]
	if t == nil {
		return nil, hinted{fmt.Errorf("no task %q in %s", task, c.Catalog), "there are " + strings.Join(slices.Sorted(maps.Keys(gen.Tasks)), ", ")}
	}
	if on == "" && len(t.Resources) == 1 {
		on = t.Resources[0]
	}
	r := gen.Resources[on]
	if r == nil {
		return nil, hinted{fmt.Errorf("which resource of %s", strings.Join(t.Resources, ", ")), "name it with --on"}
	}
	s, err := postgres.LoadSchema(ctx, func(ctx context.Context) (gate.Upstream, error) { return server.Dialer{}.Dial(ctx, r, t.Login) })
	if err != nil {
		return nil, err
	}
	g, err := parse.ForServer(s.Major)
	if err != nil {
		return nil, err
	}
	opt, _ := t.Options.(*postgres.TaskOptions)
	where := &sql.Context{Schema: s, Grammar: g, Extensions: c.Resources[on].Extensions}
	if opt != nil {
		where.Introspect, where.StatementTimeout = opt.Introspect, opt.StatementTimeout
	}
	a, err := sql.Analyze(where, text)
	if err == nil {
		a, err = a.Resolve(sql.NoNames{}) // a name is only known where the text makes it
	}
	out := &explained{Decision: abi.Deny.String()}
	var e *sql.Error
	if errors.As(err, &e) {
		out.Error = e.Error()
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.Canonical, out.Incomplete = a.Statement.Canonical, a.Statement.Incomplete
	for i := range a.Statement.Operations {
		out.Operations = append(out.Operations, a.Statement.Operations[i].String())
	}
	for _, o := range a.Statement.Outputs {
		out.Outputs = append(out.Outputs, fmt.Sprintf("%d %s: copies %s, computed from %s", o.Index+1, o.Name, sources(o.Copies), sources(o.Computed)))
	}
	command := &abi.Command{Phase: abi.Execute, Time: time.Now().UnixNano(), Statement: a.Statement,
		Session: &abi.Session{ID: "explain", Task: task, Resource: on, Login: t.Login, Groups: t.Groups, Protocol: "postgres"}}
	var decisions []abi.Decision
	for _, guard := range gen.Guards {
		v, err := guard.Command(ctx, command)
		if err != nil {
			v = &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Message: err.Error()}}
		}
		decisions = append(decisions, guard.May().Limit(v.Decision))
		if r := v.Reason; r.Message != "" {
			out.Reasons = append(out.Reasons, reason{guard.Name(), r.Code, r.Message, r.Closest, r.Hint})
		}
	}
	d, _ := abi.Combine(decisions)
	if a.Statement.Incomplete != "" {
		d = abi.Deny
	}
	out.Decision = d.String()
	return out, nil
}

func sources(list []abi.Source) string {
	if len(list) == 0 {
		return "nothing"
	}
	var out []string
	for _, s := range list {
		out = append(out, strings.Join(s.Relation, ".")+"."+s.Column)
	}
	return strings.Join(out, ", ")
}
