package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/server"
	"github.com/taskgate/taskgate/core/strict"
	"github.com/taskgate/taskgate/internal/count"
)

// bySocket is what the commands need that ask the gateway that runs.
const bySocket = "It asks by the socket in the data directory, as the gateway's own user or root, with the same -c, --set and environment as `taskgate serve`."

// call asks the gateway that runs, over the socket in its data directory.
func call(cmd *cobra.Command, method, path string, form url.Values, into any) error {
	from := source(cmd)
	socket := filepath.Join(filepath.Dir(from.Path), "data", "admin.sock")
	// The gateway runs whatever has become of its file since.
	if c, err := config.Load(from); c != nil {
		socket = filepath.Join(c.Data, "admin.sock")
	} else if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(cmd.Context(), method, "http://gateway"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return hinted{fmt.Errorf("%s is another user's", socket), "the gateway's own user may, and root"}
	case err != nil:
		return hinted{fmt.Errorf("no gateway answers on %s", socket), "`taskgate serve` runs one; is this its configuration (-c), with the same --set and environment?"}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Error  string
			Faults strict.Faults
		}
		if json.NewDecoder(resp.Body).Decode(&e) != nil || e.Error == "" {
			e.Error = resp.Status
		}
		if len(e.Faults) > 0 {
			return e.Faults
		}
		return errors.New(e.Error)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func print(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func reloadCommand() *cobra.Command {
	c := &cobra.Command{Use: "reload", Short: "judge by the files as they are now, in live sessions too", Args: words,
		Long: "Has the gateway that runs read its configuration, tasks and guards again, and prints what changed. One fault, and nothing changes. It is what SIGHUP does.\n" + bySocket,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, _ := cmd.Flags().GetBool("json")
			var out struct {
				Changes    []string       `json:"changes"`
				Generation uint64         `json:"generation"`
				Faults     []strict.Fault `json:"faults,omitempty"`
			}
			err := call(cmd, "POST", "/reload", nil, &out)
			if asJSON {
				if err == nil {
					return print(out)
				}
				if h := (hinted{}); !errors.As(err, &h) {
					out.Faults = strict.Of(err)
					return errors.Join(print(struct {
						Faults []strict.Fault `json:"faults"`
					}{out.Faults}), errQuiet)
				}
			}
			if err != nil {
				if h := (hinted{}); errors.As(err, &h) {
					return err
				}
				return hinted{err, "nothing has changed: the gateway goes on with what it has"}
			}
			for _, c := range out.Changes {
				fmt.Println(c)
			}
			fmt.Printf("generation %d\n", out.Generation)
			return nil
		}}
	c.Flags().Bool("json", false, "for programs")
	return c
}

func statusCommand() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "who is connected, and what judges them", Args: words,
		Long: "Says whether the gateway that runs is ready, where it listens, what judges, and who is connected: SESSION is what `taskgate kill` takes.\n" + bySocket,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st server.Status
			if err := call(cmd, "GET", "/status", nil, &st); err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return print(st)
			}
			fmt.Printf("version %s, generation %d, policy %.12s, tasks: %s\n", st.Version, st.Generation, st.Policy, strings.Join(st.Tasks, ", "))
			if !st.Ready {
				fmt.Println("not ready:", st.Why)
			}
			for _, l := range st.Listeners {
				how := "plain"
				if l.TLS {
					how = "TLS, certificate good until " + l.Expires.UTC().Format(time.DateOnly)
				}
				if l.HostKey != "" {
					how = "host key " + l.HostKey
				}
				fmt.Printf("listener %s %s %s\n", l.Name, l.Address, how)
			}
			for _, g := range st.Guards {
				fmt.Printf("guard %s %.12s\n", g.Name, g.Digest)
			}
			if st.Held > 0 {
				fmt.Printf("waiting for approval: %s\n", count.Of(st.Held, "command"))
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "SESSION\tSUBJECT\tTASK\tRESOURCE\tFROM\tSINCE\tCOMMANDS\tDENIED")
			for _, s := range st.Sessions {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", s.ID, record.Escape(s.Subject), s.Task, s.Resource, s.Address, s.Since.Format(time.TimeOnly), s.Commands, s.Denied)
			}
			return w.Flush()
		}}
	c.Flags().Bool("json", false, "for programs")
	return c
}

func killCommand() *cobra.Command {
	subject := ""
	c := &cobra.Command{Use: "kill [SESSION]", Short: "end a session, or all of a subject: what is open is rolled back", Args: words,
		Long: "Ends a session that `taskgate status` lists, or with --subject all of somebody's. The client is told; what is open is rolled back. Who may connect stays as it is.\n" + bySocket,
		RunE: func(cmd *cobra.Command, args []string) error {
			form := url.Values{"subject": {subject}}
			if len(args) == 1 {
				form.Set("session", args[0])
			}
			if len(args) == 0 && subject == "" {
				return hinted{errors.New("whom?"), "taskgate kill SESSION, or --subject NAME; `taskgate status` lists them"}
			}
			var out struct {
				Ended int `json:"ended"`
			}
			if err := call(cmd, "POST", "/kill", form, &out); err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				if err := print(out); err != nil {
					return err
				}
			} else if out.Ended > 0 {
				fmt.Printf("%d ended\n", out.Ended)
			}
			if out.Ended == 0 {
				return hinted{errors.New("no such session"), "`taskgate status` lists them"}
			}
			return nil
		}}
	c.Flags().Bool("json", false, "for programs")
	open := func(of func(server.SessionStatus) string) cobra.CompletionFunc {
		return func(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			var st server.Status
			if call(cmd, "GET", "/status", nil, &st) == nil {
				for _, s := range st.Sessions {
					names = append(names, of(s))
				}
			}
			slices.Sort(names)
			return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
		}
	}
	c.ValidArgsFunction = open(func(s server.SessionStatus) string { return s.ID })
	c.Flags().StringVar(&subject, "subject", "", "all sessions of this subject")
	_ = c.RegisterFlagCompletionFunc("subject", open(func(s server.SessionStatus) string { return s.Subject }))
	return c
}
