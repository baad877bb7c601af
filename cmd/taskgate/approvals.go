package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/server"
	"github.com/taskgate/taskgate/internal/count"
)

// line shows a text within one line.
func line(s string) string {
	return strings.NewReplacer("\n", "<U+000A>", "\t", "<U+0009>").Replace(approval.Visible(s))
}

// block shows a text of several lines, behind a bar: no line of it can be taken
// for one of the card's own.
func block(w io.Writer, s string) {
	for l := range strings.SplitSeq(approval.Visible(s), "\n") {
		fmt.Fprintf(w, "  | %s\n", l)
	}
}

// showCard prints all of a card. Nothing is cut: what cannot be read whole
// cannot be approved.
func showCard(w io.Writer, c *approval.Card, now time.Time) {
	fmt.Fprintf(w, "request   %s, %s", line(c.ID), line(string(c.State)))
	if c.Ended == nil {
		fmt.Fprintf(w, " until %s (%s)", c.Until.Local().Format(time.DateTime), left(c.Until, now))
	}
	if c.Why != "" {
		fmt.Fprintf(w, ": %s", line(c.Why))
	}
	fmt.Fprintf(w, "\nwho       %s (%s) from %s\n", line(c.Subject), line(c.Issuer), line(c.Address))
	if len(c.Groups) > 0 {
		fmt.Fprintf(w, "groups    %s\n", joined(c.Groups, ", "))
	}
	fmt.Fprintf(w, "task      %s on %s as %s, session %s\n", line(c.Task), line(c.Resource), line(c.Login), line(c.Session))
	for _, n := range c.Needs {
		fmt.Fprintf(w, "needs     %s, %d so far", need(&n), n.Have)
		if n.Summary != "" {
			fmt.Fprintf(w, ": %s", line(n.Summary))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "text")
	block(w, c.Text)
	if c.Canonical != c.Text {
		fmt.Fprintln(w, "runs as")
		block(w, c.Canonical)
	}
	if len(c.Strange) > 0 {
		fmt.Fprintf(w, "careful   it has characters that are not seen as themselves: %s\n", joined(c.Strange, ", "))
	}
	for i, p := range c.Params {
		fmt.Fprintf(w, "param     $%d = %s\n", i+1, line(p))
	}
	for _, o := range c.Operations {
		fmt.Fprintf(w, "does      %s\n", line(o))
	}
	if len(c.Earlier) > 0 {
		fmt.Fprintln(w, "after     this, in the same open transaction")
		for _, e := range c.Earlier {
			block(w, e)
		}
	} else if c.Open {
		fmt.Fprintln(w, "after     nothing that writes: its transaction is open")
	}
	if c.Estimated != nil {
		fmt.Fprintf(w, "rows      about %d, as the planner estimated when it was asked\n", *c.Estimated)
	}
	if c.Counted != nil {
		fmt.Fprintf(w, "rows      %d, as counted when it was asked; no more will be changed\n", *c.Counted)
	}
	if p := c.Payload; p != nil && p.Unseen {
		fmt.Fprintln(w, "payload   nobody can see what will be sent into it")
	} else if p != nil {
		how := "its beginning"
		if p.Whole {
			how = "all of it"
		}
		fmt.Fprintf(w, "payload   %s, sha256 %s; %s\n", count.Of(p.Size, "byte"), line(p.Digest), how)
		if p.Head != "" {
			block(w, p.Head)
		}
	}
	for i := range c.Voices {
		v := &c.Voices[i]
		word := "denied"
		if v.Approve {
			word = "approved"
		}
		fmt.Fprintf(w, "%-9s by %s (%s) at %s: %s\n", word, line(v.Subject), line(v.Issuer), v.At.Local().Format(time.DateTime), line(v.Reason))
	}
	if c.Command > 0 {
		fmt.Fprintf(w, "used      by command %d of its session", c.Command)
		if c.Outcome != "" {
			fmt.Fprintf(w, ": %s", line(c.Outcome))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "bound to  sha256 %s\n", line(c.Binding))
	if c.Code != "" {
		fmt.Fprintf(w, "code      %s\n", line(c.Code))
	}
}

func joined(list []string, between string) string {
	shown := make([]string, len(list))
	for i, s := range list {
		shown[i] = line(s)
	}
	return strings.Join(shown, between)
}

func need(n *approval.Need) string {
	if len(n.Groups) == 0 {
		return fmt.Sprintf("%d of nobody: no group is named", n.People)
	}
	return fmt.Sprintf("%d of %s", n.People, joined(n.Groups, " or "))
}

// waits says what a request still needs.
func waits(list []approval.Need) string {
	var all []string
	for i := range list {
		if n := &list[i]; !n.Met {
			all = append(all, fmt.Sprintf("%d/%s", n.Have, need(n)))
		}
	}
	return strings.Join(all, " and ")
}

func left(until, now time.Time) string {
	if d := until.Sub(now).Round(time.Second); d > 0 {
		return d.String() + " left"
	}
	return "over"
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// ask asks whoever sits at the terminal for a line.
func ask(ctx context.Context, what, flag string) (string, error) {
	if !terminal(os.Stdin) {
		return "", hinted{fmt.Errorf("%s: there is no terminal to ask at", what), "give it by " + flag}
	}
	fmt.Fprintf(os.Stderr, "%s: ", what)
	got := make(chan string, 1)
	go func() { // ends with the process, where nobody answers
		l, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		got <- strings.TrimSpace(l)
	}()
	select {
	case l := <-got:
		return l, nil
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr)
		return "", errors.New("interrupted: nothing was decided")
	}
}

// interruptible is a context that ctrl-C ends.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
}

// decider asks for requests and decides them, by a control token.
type decider struct {
	browser bool
	port    int
}

func (f *decider) flags(c *cobra.Command) {
	c.Flags().BoolVar(&f.browser, "browser", false, "where a fresh login is needed: by a browser on this host")
	c.Flags().IntVar(&f.port, "port", 0, "the port on this host that the browser comes back to, where the provider wants to know it")
}

func approvalsCommand() *cobra.Command {
	f, watch, all := &decider{}, false, false
	c := &cobra.Command{Use: "approvals", Short: "what waits for people to approve it", Args: cobra.NoArgs, Annotations: map[string]string{away: "yes"},
		Long: "Lists the requests that you may see: those that you may decide, and your own. `taskgate login` comes first. Decisions need a fresh login, which is asked for and kept for 15 minutes.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			asJSON, _ := cmd.Flags().GetBool("json")
			if watch {
				return f.watch(ctx, asJSON)
			}
			list, err := f.list(ctx, all)
			if err != nil {
				return err
			}
			if asJSON {
				return print(list)
			}
			return briefs(list)
		}}
	c.Flags().BoolVar(&watch, "watch", false, "go on with what changes, until ctrl-C")
	c.Flags().BoolVar(&all, "all", false, "those that are over too")
	c.MarkFlagsMutuallyExclusive("watch", "all")
	c.PersistentFlags().Bool("json", false, "for programs")
	f.flags(c)
	shown := &decider{}
	show := &cobra.Command{Use: "show ID", Short: "all there is to know of a request", Long: "Shows the card of a request: what would run, by whom, what it does, and who has to approve it. `taskgate approvals` lists the ids; after `taskgate login`.", Args: words, ValidArgsFunction: requests(true), RunE: func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd)
		defer stop()
		card, err := shown.card(ctx, args[0])
		if err != nil {
			return err
		}
		if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
			return print(card)
		}
		showCard(os.Stdout, card, time.Now())
		return nil
	}}
	shown.flags(show)
	c.AddCommand(show)
	return c
}

func decideCommand(word, short string) *cobra.Command {
	f, reason, code := &decider{}, "", ""
	c := &cobra.Command{Use: word + " ID", Short: short, Args: words, Annotations: map[string]string{away: "yes"}, ValidArgsFunction: requests(false),
		Long: short + ". Shows the card and asks for the code that stands on it, so that what is decided has been seen. Status 0: it counts.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			asJSON, _ := cmd.Flags().GetBool("json")
			card, err := f.card(ctx, args[0])
			if ctx.Err() != nil {
				return errors.New("interrupted: nothing was decided")
			}
			if err != nil {
				return err
			}
			if !asJSON {
				showCard(os.Stdout, card, time.Now())
			}
			if card.State != gate.Waiting {
				return hinted{fmt.Errorf("the request is over: %s", line(string(card.State))), "`taskgate approvals` lists what waits"}
			}
			if code == "" {
				if code, err = ask(ctx, "code of the card, to "+word, "--code"); err != nil {
					return err
				}
			}
			if reason == "" {
				if reason, err = ask(ctx, "reason", "--reason"); err != nil {
					return err
				}
			}
			after := &approval.Card{}
			if err := f.do(ctx, http.MethodPost, "/v1/approvals/"+url.PathEscape(args[0]), map[string]string{"decision": word, "reason": reason, "code": code}, after); ctx.Err() != nil {
				return hinted{errors.New("interrupted"), "`taskgate approvals show " + line(args[0]) + "` says whether it counts"}
			} else if err != nil {
				return err
			}
			if asJSON {
				return print(after)
			}
			fmt.Println(came(after))
			return nil
		}}
	c.Flags().StringVar(&reason, "reason", "", "why: it is recorded, and whoever asked is told; asked for if not given")
	c.Flags().StringVar(&code, "code", "", "the code on the card; asked for if not given")
	c.Flags().Bool("json", false, "for programs")
	f.flags(c)
	return c
}

// came says what came of a decision.
func came(c *approval.Card) string {
	switch c.State {
	case gate.Waiting:
		return "counted: it still waits for " + waits(c.Needs)
	case gate.Refused:
		return "denied: whoever asked is told"
	}
	return string(c.State)
}

// briefs prints a list for people.
func briefs(list []approval.Brief) error {
	if len(list) == 0 {
		fmt.Println("nothing waits for you, and nothing of yours waits")
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tWHO\tTASK@RESOURCE\tWHAT\tWAITS FOR\tUNTIL")
	for i := range list {
		fmt.Fprintln(w, row(&list[i]))
	}
	return w.Flush()
}

// row is a request in a line: its text may be cut there, which is said.
func row(b *approval.Brief) string {
	what := strings.ReplaceAll(strings.ReplaceAll(b.Text, "\n", "↵"), "\t", "→")
	if b.Cut {
		what += "… (cut)"
	}
	who, state := line(b.Subject), string(b.State)
	if b.Own {
		who += " (you)"
	}
	if b.State == gate.Waiting {
		state = waits(b.Needs)
	} else if b.Why != "" {
		state += ": " + line(b.Why)
	}
	return strings.Join([]string{line(b.ID), who, line(b.Task) + "@" + line(b.Resource), what, state, b.Until.Local().Format(time.DateTime)}, "\t")
}

// control gives a login for decisions: the one that is kept while it is fresh,
// else one that is made now, as `taskgate login` does.
func (f *decider) control(ctx context.Context) (*kept, error) {
	k, err := loadKept()
	if err != nil {
		return nil, err
	}
	if !time.Now().Before(k.ControlExpires) {
		fmt.Fprintln(os.Stderr, "decisions need a fresh login; it is kept for 15 minutes")
		m, err := k.me(ctx) // by the same provider
		if err != nil {
			return nil, err
		}
		t, err := k.logIn(ctx, flow{issuer: m.Issuer, purpose: "control", browser: f.browser, port: f.port, talk: os.Stderr})
		if err != nil {
			return nil, err
		}
		k.Control, k.ControlExpires = t.Token, t.Expires
		if err := k.save(); err != nil {
			return nil, err
		}
		own := *k
		own.Token = k.Control
		now, err := own.me(ctx)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "you decide as %s, until %s\n", line(now.Subject), k.ControlExpires.Local().Format(time.TimeOnly))
	}
	own := *k
	own.Token = k.Control
	return &own, nil
}

// do calls the API with a control token. One that the gateway does not take any
// more is forgotten, and another is asked for.
func (f *decider) do(ctx context.Context, method, path string, in, out any) error {
	for again := false; ; again = true {
		k, err := f.control(ctx)
		if err != nil {
			return err
		}
		if err = k.do(ctx, method, path, in, out); !errors.Is(err, errLogin) || again {
			return err
		}
		if kept, e := loadKept(); e == nil {
			kept.Control, kept.ControlExpires = "", time.Time{}
			if e := kept.save(); e != nil {
				return e
			}
		}
	}
}

func (f *decider) list(ctx context.Context, all bool) ([]approval.Brief, error) {
	path := "/v1/approvals"
	if all {
		path += "?state=all"
	}
	var got server.Requests
	err := f.do(ctx, http.MethodGet, path, nil, &got)
	return got.Requests, err
}

func (f *decider) card(ctx context.Context, id string) (*approval.Card, error) {
	c := &approval.Card{}
	return c, f.do(ctx, http.MethodGet, "/v1/approvals/"+url.PathEscape(id), nil, c)
}

// watch lists what waits, and then what changes, until ctx is done: that is its
// good end.
func (f *decider) watch(ctx context.Context, asJSON bool) error {
	list, err := f.list(ctx, false)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "watching; ctrl-C ends it")
	shown, enc := map[string]string{}, json.NewEncoder(os.Stdout)
	show := func(list []approval.Brief) error {
		for i := range list {
			b := &list[i]
			now := fmt.Sprint(b.State, waits(b.Needs), b.Why)
			if shown[b.ID] == now {
				continue
			}
			if shown[b.ID] = now; asJSON {
				err = enc.Encode(b)
			} else {
				_, err = fmt.Printf("%s  %s\n", time.Now().Format(time.TimeOnly), strings.ReplaceAll(row(b), "\t", "  "))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := show(list); err != nil {
		return err
	}
	after, pause := uint64(0), time.Second
	for ctx.Err() == nil {
		var got server.Requests
		err := f.do(ctx, http.MethodGet, fmt.Sprintf("/v1/approvals/watch?after=%d", after), nil, &got)
		if ctx.Err() != nil {
			break
		}
		if err != nil && !errors.Is(err, errAway) {
			return err
		}
		if err != nil { // the gateway may come back
			fmt.Fprintf(os.Stderr, "taskgate: %v; trying again in %s\n", err, pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, 30*time.Second)
			continue
		}
		if after == 0 { // all that this gateway knows: what was over before is no news
			got.Requests = slices.DeleteFunc(got.Requests, func(b approval.Brief) bool {
				return shown[b.ID] == "" && b.State != gate.Waiting && b.State != gate.Approved
			})
		}
		if err := show(got.Requests); err != nil {
			return err
		}
		after, pause = got.Seq, time.Second
	}
	return nil
}

// requests completes with ids: those that may be decided, or all. It asks with
// the control token that is kept, and never for a login.
func requests(all bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
		k, err := loadKept()
		if err != nil || len(args) > 0 || !time.Now().Before(k.ControlExpires) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
		defer stop()
		k.Token = k.Control
		var got server.Requests
		path := "/v1/approvals"
		if all {
			path += "?state=all"
		}
		if k.do(ctx, http.MethodGet, path, nil, &got) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for i := range got.Requests {
			if b := &got.Requests[i]; all || b.MayVote {
				ids = append(ids, line(b.ID)+"\t"+line(b.Subject)+" "+line(b.Task)+"@"+line(b.Resource))
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}
