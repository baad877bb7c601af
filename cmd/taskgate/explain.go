package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/mask"
	"github.com/taskgate/taskgate/core/protocol/postgres"
	"github.com/taskgate/taskgate/core/protocol/ssh"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/server"
	"github.com/taskgate/taskgate/core/shell"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/internal/count"
)

// explained is what `taskgate explain --json` prints.
type explained struct {
	Canonical  string       `json:"canonical,omitempty"`
	Operations []string     `json:"operations"`
	Outputs    []string     `json:"outputs,omitempty"`
	Masks      []masked     `json:"masks,omitempty"`
	Blind      []string     `json:"blind,omitempty"`   // columns that the text sees masked
	Filters    []string     `json:"filters,omitempty"` // masked columns that the text compares with values
	Guesses    int          `json:"guesses,omitempty"` // with how many
	Texts      []maskedText `json:"texts,omitempty"`
	Incomplete string       `json:"incomplete,omitempty"`
	Error      string       `json:"error,omitempty"`
	Decision   string       `json:"decision"`
	Guards     []guardSaid  `json:"guards,omitempty"` // what each says
	Reasons    []reason     `json:"reasons,omitempty"`
	Needs      []needed     `json:"needs,omitempty"` // who has to approve what is held
	Returned   uint64       `json:"rows_returned,omitempty"`
	Written    uint64       `json:"rows_written,omitempty"`
	Oracle     bool         `json:"oracle,omitempty"` // a constraint may tell of a masked column, as the task accepts
	Stdin      bool         `json:"stdin,omitempty"`  // of a program: what the client sends may pass
}

// masked is an output that is shown through a mask.
type masked struct {
	Statement int    `json:"statement"` // from 1
	Output    int    `json:"output"`    // from 1
	Name      string `json:"name"`
	Rule      string `json:"rule"`
	Column    string `json:"column"`

	Of []maskedColumn `json:"of,omitempty"` // where several come together: what masks each by itself
}

type maskedColumn struct {
	Column string `json:"column"`
	Rule   string `json:"rule"`
}

// guardSaid is what one guard says, as far as it may.
type guardSaid struct {
	Guard    string `json:"guard"`
	Decision string `json:"decision"`
}

// maskedText is what is masked in each line of what a host answers.
type maskedText struct {
	What string `json:"what"`
	By   string `json:"by"`
}

// needed is what one guard asks for before the text may run.
type needed struct {
	Guard   string   `json:"guard"`
	Groups  []string `json:"groups"`
	People  uint32   `json:"people"`
	Within  string   `json:"within"`
	Justify bool     `json:"justify,omitempty"`
	Summary string   `json:"summary,omitempty"`
}

// reason is why a guard says what it says.
type reason struct {
	Guard   string `json:"guard"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Closest string `json:"closest,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// gateItself is the guard of a reason that is the gate's own.
const gateItself = "gate"

// askHint helps where a resource does not answer.
const askHint = "what a text does depends on the tables of the resource, which has to be asked: does it run at its `address`, and is the login's password right?"

func explainCommand() *cobra.Command {
	var task, on string
	c := &cobra.Command{Use: "explain --task TASK [--on RESOURCE] TEXT", Short: "what a text would do, and whether the task allows it; runs nothing", Args: words,
		Long:        "Explain says what a text would do at a resource, and whether the task allows it. It runs nothing. A text for a database is SQL, and the database is asked for its tables;\none for a host is what ssh would be given behind the host's name, in quotes, and the host is not asked.\n`gateway.yaml`, or -c, has the resources and the catalog of tasks. Its status is 0 where the text is allowed, 1 where it is refused or held, 2 where that could not be found out.",
		Annotations: map[string]string{faultStatus: "2"},
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := explain(cmd.Context(), source(cmd), task, on, args[0])
			if err != nil {
				return err
			}
			over := error(nil)
			if out.Decision != abi.Allow.String() {
				over = errQuiet
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return errors.Join(print(out), over)
			}
			for _, o := range out.Operations {
				say("does", o)
			}
			for _, o := range out.Outputs {
				say("output", o)
			}
			for _, m := range out.Masks {
				say("masked", m.String())
			}
			for _, t := range out.Texts {
				say("masked", t.String())
			}
			for _, b := range out.Blind {
				say("blind", b)
			}
			for _, f := range out.Filters {
				say("filter", fmt.Sprintf("compares %s with %s, and so tells of each whether it is right", f, count.Of(out.Guesses, "value")))
			}
			if out.Oracle {
				say("oracle", "a constraint may tell of a masked column, as the task accepts")
			}
			if out.Stdin {
				say("input", "what the client sends may pass")
			}
			if out.Incomplete != "" {
				say("unknown", out.Incomplete)
			}
			if out.Error != "" {
				say("error", out.Error)
			}
			if out.Canonical != "" && out.Decision == abi.Allow.String() {
				say("forwarded", out.Canonical)
			}
			say("decision", out.Decision)
			out.why()
			for _, n := range out.Needs {
				say("needs", n.String())
			}
			for _, l := range []struct {
				rows uint64
				what string
			}{{out.Returned, "shows at most %s"}, {out.Written, "writes at most %s, or is rolled back"}} {
				if l.rows > 0 {
					say("limit", fmt.Sprintf(l.what, count.Of(l.rows, "row")))
				}
			}
			return over
		}}
	c.Flags().StringVar(&task, "task", "", "the task")
	c.Flags().StringVar(&on, "on", "", "the resource, if the task has several")
	c.Flags().Bool("json", false, "for programs")
	_ = c.MarkFlagRequired("task")
	_ = c.RegisterFlagCompletionFunc("task", taskNames)
	_ = c.RegisterFlagCompletionFunc("on", resourceNames)
	return c
}

// why prints the reasons, and where there are several guards what each says.
func (out *explained) why() {
	guards := out.Guards
	if len(guards) < 2 {
		guards = []guardSaid{{}}
	} else if slices.ContainsFunc(out.Reasons, func(r reason) bool { return r.Guard == gateItself }) {
		guards = append(slices.Clip(guards), guardSaid{gateItself, abi.Deny.String()})
	}
	for _, g := range guards {
		switch g.Guard {
		case "":
		case gateItself:
			say("gateway", g.Decision)
		default:
			say("guard", g.Guard+": "+g.Decision)
		}
		for _, r := range out.Reasons {
			for _, line := range []string{r.Message, r.Closest, r.Hint} {
				if line != "" && (g.Guard == "" || g.Guard == r.Guard) {
					say("", line)
				}
			}
		}
	}
}

// say prints one line of what explain says. What a database calls its things
// does not steer the terminal (X18).
func say(what, text string) { fmt.Printf("%-10s %s\n", what, record.Escape(text)) }

// taskNames completes with the tasks of the catalog.
func taskNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, _ := config.Load(source(cmd))
	if c == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cat, _ := catalog.Read(c.Catalog)
	if cat == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(cat.Tasks)), cobra.ShellCompDirectiveNoFileComp
}

// resourceNames completes with the resources of the task that is named, or of
// the configuration.
func resourceNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, _ := config.Load(source(cmd))
	if c == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if cat, _ := catalog.Read(c.Catalog); cat != nil && cmd.Flag("task") != nil {
		if t := cat.Tasks[cmd.Flag("task").Value.String()]; t != nil {
			return t.Resources, cobra.ShellCompDirectiveNoFileComp
		}
	}
	return slices.Sorted(maps.Keys(c.Resources)), cobra.ShellCompDirectiveNoFileComp
}

func explain(ctx context.Context, from config.Source, task, on, text string) (*explained, error) {
	c, err := config.Load(from)
	if err != nil {
		return nil, err
	}
	host, done, err := openModules(c)
	if err != nil {
		return nil, err
	}
	defer done()
	gen, _, err := server.Build(ctx, host, c)
	if err != nil {
		return nil, err
	}
	defer gen.Close()
	t := gen.Tasks[task]
	if t == nil {
		return nil, hinted{fmt.Errorf("no task %q in %s", task, c.Catalog), "there are " + strings.Join(slices.Sorted(maps.Keys(gen.Tasks)), ", ")}
	}
	if on, err = resourceOf(task, t.Resources, on); err != nil {
		return nil, err
	}
	r := gen.Resources[on]
	out := &explained{Decision: abi.Deny.String()}
	var st *abi.Statement
	switch is := c.Resources[on]; is.Protocol {
	case "ssh":
		o := shell.Options{Posix: is.Posix}
		if opt, ok := t.Options.(*ssh.TaskOptions); ok {
			o.Rsync = opt.Rsync
		}
		st = shell.Parse(text, o)
	default:
		st, err = analyzed(ctx, r, t, is.Extensions, text)
	}
	var e *sql.Error
	if errors.As(err, &e) {
		out.Error = e.Error()
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.Canonical, out.Incomplete = st.Canonical, st.Incomplete
	for i := range st.Operations {
		out.Operations = append(out.Operations, st.Operations[i].String())
	}
	for _, o := range st.Outputs {
		out.Outputs = append(out.Outputs, fmt.Sprintf("%d %s: %s", o.Index+1, o.Name, lineage(&o)))
	}
	command := &abi.Command{Phase: abi.Execute, Time: time.Now().UnixNano(), Statement: st,
		Session: &abi.Session{ID: "explain", Task: task, Resource: on, Login: t.Login, Groups: t.Groups, Protocol: st.Protocol}}
	var said []*abi.Verdict
	for _, guard := range gen.Guards {
		v, err := guard.Command(ctx, command)
		if err != nil {
			v = &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Message: err.Error()}}
		}
		said = append(said, v)
		if r := v.Reason; r.Message != "" {
			out.Reasons = append(out.Reasons, reason{guard.Name(), r.Code, r.Message, r.Closest, r.Hint})
		}
	}
	judged := gate.Explain(st, gen.Guards, said)
	for i, guard := range gen.Guards {
		out.Guards = append(out.Guards, guardSaid{guard.Name(), judged.Said[i].String()})
	}
	out.judged(judged, st)
	return out, nil
}

// analyzed is what a text does at a database, which is asked for its tables.
func analyzed(ctx context.Context, r *gate.Resource, t *gate.Task, extensions []string, text string) (*abi.Statement, error) {
	s, err := postgres.LoadSchema(ctx, func(ctx context.Context) (gate.Upstream, error) { return server.Dialer{}.Dial(ctx, r, t.Login) })
	if err != nil {
		return nil, hinted{err, askHint}
	}
	g, err := parse.ForServer(s.Major)
	if err != nil {
		return nil, err
	}
	opt, _ := t.Options.(*postgres.TaskOptions)
	where := &sql.Context{Schema: s, Grammar: g, Extensions: extensions}
	if opt != nil {
		where.Introspect, where.StatementTimeout, where.Blind, where.Filter, where.Listed, where.Definitions = opt.Introspect, opt.StatementTimeout, opt.Blind, opt.Filter, opt.Listed, opt.Definitions
	}
	a, err := sql.Analyze(where, text)
	if err == nil {
		a, err = a.Resolve(sql.NoNames{}) // a name is only known where the text makes it
	}
	if err != nil {
		return nil, err
	}
	return a.Statement, nil
}

// judged takes over what the gate makes of the guards' answers.
func (out *explained) judged(e *gate.Explained, st *abi.Statement) {
	out.Decision = e.Verdict.Decision.String()
	if e.Refused != nil {
		r := e.Refused.Reason
		out.Reasons = append(out.Reasons, reason{e.Refused.Guard, r.Code, r.Message, r.Closest, r.Hint})
	}
	for _, m := range e.Masks {
		name := ""
		for i := range st.Outputs {
			if o := &st.Outputs[i]; o.Statement == m.Statement && o.Index == m.Index {
				name = o.Name
			}
		}
		shown := masked{Statement: m.Statement + 1, Output: m.Index + 1, Name: name, Rule: m.Rule.String(), Column: m.Column}
		for _, of := range m.Of {
			if len(m.Of) > 1 {
				shown.Of = append(shown.Of, maskedColumn{of.Column, of.Rule.String()})
			}
		}
		out.Masks = append(out.Masks, shown)
	}
	for _, t := range e.Texts {
		out.Texts = append(out.Texts, maskedText{t.What, t.By})
	}
	if out.Filters = e.Filters; len(e.Filters) > 0 {
		out.Guesses = st.Guesses
	}
	for i := range st.Blind {
		b := &st.Blind[i]
		out.Blind = append(out.Blind, fmt.Sprintf("the text sees %s.%s masked by %s", strings.Join(b.Relation, "."), b.Column, mask.Rule{Kind: b.Kind, Arg: b.Arg, Nulls: b.Nulls}))
	}
	for _, n := range e.Needs {
		out.Needs = append(out.Needs, needed{n.Guard, n.Groups, max(n.People, 1), (time.Duration(n.Within) * time.Second).String(), n.Justify, n.Summary})
	}
	out.Stdin = e.Verdict.Stdin && out.Decision != abi.Deny.String()
	if out.Oracle = e.Oracle; out.Decision != abi.Deny.String() {
		out.Returned, out.Written = e.Verdict.Terms.RowsReturned, e.Verdict.Terms.RowsWritten
	}
}

func (t maskedText) String() string { return "of each line " + t.What + ": masked by " + t.By }

func (m *masked) String() string {
	because := m.Column
	for i, of := range m.Of { // each with its own mask
		if because += " and "; i == 0 {
			because = ""
		}
		because += of.Column + " (" + of.Rule + ")"
	}
	s := fmt.Sprintf("output %d %s: masked by %s because of %s", m.Output, m.Name, m.Rule, because)
	if m.Statement > 1 {
		s = fmt.Sprintf("statement %d, %s", m.Statement, s)
	}
	return s
}

func (n *needed) String() string {
	s := fmt.Sprintf("the approval of %d of %s within %s", n.People, strings.Join(n.Groups, " or "), n.Within)
	if n.Justify {
		s += ", with a reason"
	}
	if n.Summary != "" {
		s += ": " + n.Summary
	}
	return s
}

// lineage says where an output comes from.
func lineage(o *abi.Output) string {
	switch {
	case len(o.Computed) == 0 && len(o.Copies) == 0:
		return "of no column"
	case len(o.Computed) == 0:
		return "copies " + sources(o.Copies)
	case len(o.Copies) == 0:
		return "computed from " + sources(o.Computed)
	}
	return "copies " + sources(o.Copies) + ", computed from " + sources(o.Computed)
}

func sources(list []abi.Source) string {
	var out []string
	for _, s := range list {
		out = append(out, strings.Join(s.Relation, ".")+"."+s.Column)
	}
	return strings.Join(out, ", ")
}
