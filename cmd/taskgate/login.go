package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/server"
)

func loginCommand() *cobra.Command {
	k, how := &kept{}, flow{talk: os.Stdout}
	c := &cobra.Command{Use: "login", Short: "log in by your identity provider, through the gateway", Args: words, Annotations: map[string]string{away: "yes"},
		Long:    "Logs you in, and keeps the login for the commands after it (12 hours, in your configuration directory, for you alone to read). Where --gateway is left out it is the one of the last login.\nOpen the page that it names, compare the code, and it goes on by itself.",
		Example: "  taskgate login --gateway https://gateway.example:8443\n  taskgate psql RESOURCE --task TASK",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if old, err := loadKept(); err == nil && k.Gateway == "" {
				k.Gateway, k.CA = old.Gateway, old.CA
			}
			if k.Gateway == "" {
				return hinted{errors.New("which gateway?"), "--gateway https://HOST:PORT, or TASKGATE_GATEWAY in the environment"}
			}
			if k.CA != "" {
				abs, err := filepath.Abs(k.CA)
				if err != nil {
					return err
				}
				k.CA = abs
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			t, err := k.logIn(ctx, how)
			if err != nil {
				return err
			}
			k.Token, k.Expires = t.Token, t.Expires
			if err := k.save(); err != nil {
				return err
			}
			m, err := k.me(ctx)
			if err != nil {
				return err
			}
			if err := errors.Join(showMe(m), k.beginSSH(ctx)); err != nil {
				return err
			}
			if slices.ContainsFunc(m.Tasks, func(t server.TaskStatus) bool { return len(t.SSH) > 0 }) {
				fmt.Println("hosts: `taskgate ssh-config --write ~/.ssh/config`, then ssh as ever")
			}
			return nil
		}}
	c.Flags().StringVar(&k.Gateway, "gateway", os.Getenv("TASKGATE_GATEWAY"), "the gateway's API, https://HOST:PORT")
	c.Flags().StringVar(&k.CA, "ca", "", "a file of the certificates to trust instead of the system's")
	c.Flags().StringVar(&how.issuer, "issuer", "", "the identity provider, where the gateway trusts several")
	c.Flags().BoolVar(&how.browser, "browser", false, "by a browser on this host, which comes back here by itself")
	c.Flags().BoolVar(&how.device, "device", false, "by a code that is typed into a browser anywhere: the default, where the provider offers it")
	c.Flags().IntVar(&how.port, "port", 0, "the port on this host that the browser comes back to, where the provider wants to know it")
	c.MarkFlagsMutuallyExclusive("browser", "device")
	return c
}

// flow is how somebody logs in.
type flow struct {
	issuer, purpose string // purpose is control where it is to decide
	browser, device bool
	port            int       // that a browser comes back to
	talk            io.Writer // where the user is told what to do
}

func (k *kept) logIn(ctx context.Context, how flow) (server.Token, error) {
	if how.browser {
		return k.byBrowser(ctx, how)
	}
	t, err := k.byDevice(ctx, how)
	if errors.Is(err, errCannot) && !how.device {
		return k.byBrowser(ctx, how)
	}
	return t, err
}

// ask is what the gateway is asked for. Who decides nothing asks as before there
// was anything to decide.
func (f *flow) ask(redirect string) map[string]string {
	in := map[string]string{"issuer": f.issuer}
	if redirect != "" {
		in["redirect"] = redirect
	}
	if f.purpose != "" {
		in["for"] = f.purpose
	}
	return in
}

// byDevice logs in by a code that the user types into a page (RFC 8628).
func (k *kept) byDevice(ctx context.Context, how flow) (t server.Token, err error) {
	var d struct {
		ID          string
		Code, URL   string
		URLWithCode string `json:"url_with_code"`
		Expires     time.Time
	}
	if err := k.do(ctx, http.MethodPost, "/v1/login", how.ask(""), &d); err != nil {
		return t, err
	}
	fmt.Fprintf(how.talk, "open  %s\ncode  %s\n", d.URL, d.Code)
	if d.URLWithCode != "" {
		fmt.Fprintf(how.talk, "or    %s\n", d.URLWithCode)
	}
	fmt.Fprintf(how.talk, "waiting until %s\n", d.Expires.Local().Format(time.TimeOnly))
	for {
		if err = k.do(ctx, http.MethodPost, "/v1/login/wait", map[string]string{"id": d.ID}, &t); !errors.Is(err, errWait) {
			return t, err
		}
	}
}

// byBrowser logs in by a browser on this host: it comes back to an address of
// loopback with a code that only the gateway can do something with.
func (k *kept) byBrowser(ctx context.Context, how flow) (t server.Token, err error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(how.port)))
	if err != nil {
		return t, err
	}
	defer l.Close()
	var b struct {
		ID, URL string
		Expires time.Time
	}
	if err := k.do(ctx, http.MethodPost, "/v1/login", how.ask("http://"+l.Addr().String()+"/callback"), &b); err != nil {
		return t, err
	}
	page, err := url.Parse(b.URL)
	if err != nil {
		return t, err
	}
	state, answers := page.Query().Get("state"), make(chan url.Values, 1)
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/callback" || r.Method != http.MethodGet || q.Get("state") != state { // some other page of this browser
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "You can close this page: the program that opened it goes on.")
		select {
		case answers <- q:
		default:
		}
	})}
	go func() { _ = s.Serve(l) }() // ends with the listener
	fmt.Fprintf(how.talk, "open  %s\nwaiting until %s\n", b.URL, b.Expires.Local().Format(time.TimeOnly))
	ctx, stop := context.WithDeadline(ctx, b.Expires)
	defer stop()
	select {
	case q := <-answers:
		grace, stop := context.WithTimeout(ctx, 2*time.Second) // for the page to arrive
		defer stop()
		_ = s.Shutdown(grace)
		if why := q.Get("error"); why != "" {
			return t, fmt.Errorf("the provider refused: %s", record.Escape(why))
		}
		err = k.do(ctx, http.MethodPost, "/v1/login/code", map[string]string{"id": b.ID, "state": state, "code": q.Get("code")}, &t)
		return t, err
	case <-ctx.Done():
		return t, errors.New("nobody came back from the browser")
	}
}

func showMe(m *server.Me) error {
	fmt.Printf("you are %s, until %s\n", record.Escape(m.Subject), m.Expires.Local().Format(time.DateTime))
	if len(m.Tasks) == 0 {
		fmt.Println("no task: none of your groups gives one now")
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TASK\tRESOURCES")
	for _, t := range m.Tasks {
		fmt.Fprintf(w, "%s\t%s\n", t.Name, strings.Join(t.Resources, ", "))
	}
	return w.Flush()
}

func whoamiCommand() *cobra.Command {
	c := &cobra.Command{Use: "whoami", Short: "who you are to the gateway, and which tasks you may do now", Args: words, Annotations: map[string]string{away: "yes"},
		Long: "Asks the gateway of your login who you are to it, until when, and which tasks your groups give you now, on which resources. `taskgate login` comes first.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := loadKept()
			if err != nil {
				return err
			}
			m, err := k.me(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return print(m)
			}
			return showMe(m)
		}}
	c.Flags().Bool("json", false, "for programs")
	return c
}

func logoutCommand() *cobra.Command {
	return &cobra.Command{Use: "logout", Short: "end your login and its tokens; sessions that came by it end too", Args: words, Annotations: map[string]string{away: "yes"},
		Long: "Ends your login at the gateway, with the tokens, certificates and sessions that came of it, and removes it from this machine.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := keptPath()
			if err != nil {
				return err
			}
			k, err := loadKept()
			if err == nil {
				err = k.do(cmd.Context(), http.MethodPost, "/v1/logout", nil, &struct{}{})
				if time.Now().Before(k.ControlExpires) { // a login of its own
					k.Token = k.Control
					err = errors.Join(err, k.do(cmd.Context(), http.MethodPost, "/v1/logout", nil, &struct{}{}))
				}
			}
			// The file goes in any case: what cannot be ended at the gateway ends by itself.
			if gone := os.Remove(path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
				return errors.Join(err, gone)
			}
			if err = errors.Join(err, forgetSSH()); err == nil {
				fmt.Printf("logged out of %s\n", k.Gateway)
			}
			return err
		}}
}

func tokenCommand() *cobra.Command {
	var task, on string
	var from []string
	lasts := 15 * time.Minute
	c := &cobra.Command{Use: "token", Short: "print a token: a password for tools that know nothing of taskgate", Long: "Prints a token for one task on one resource (--task, --on), for 15 minutes unless --for says otherwise. Without them it prints your login's own token: whoever has it is you, for all of your tasks. `taskgate login` comes first; the user of a connection is the task, the database the resource.", Annotations: map[string]string{away: "yes"},
		Example: "  PGPASSWORD=$(taskgate token --task TASK --on RESOURCE) psql \"host=GATEWAY port=6432 user=TASK dbname=RESOURCE\"", Args: words, RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := loadKept()
			if err != nil {
				return err
			}
			if (task == "") != (on == "") {
				return hinted{errors.New("--task and --on go together"), "`taskgate whoami` lists your tasks and their resources"}
			}
			if task == "" && len(from) > 0 {
				return errors.New("--from goes with --task and --on")
			}
			t := &server.Token{Token: k.Token, Expires: k.Expires}
			if task != "" {
				if t, err = k.narrow(cmd.Context(), task, on, lasts, from); err != nil {
					return err
				}
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return print(t)
			}
			fmt.Println(t.Token)
			return nil
		}}
	c.Flags().StringVar(&task, "task", "", "good for this task alone")
	c.Flags().StringVar(&on, "on", "", "good for this resource alone")
	_ = c.RegisterFlagCompletionFunc("task", mine(func(t server.TaskStatus) []string { return []string{t.Name} }))
	_ = c.RegisterFlagCompletionFunc("on", mine(func(t server.TaskStatus) []string {
		if task != "" && t.Name != task {
			return nil
		}
		return append(slices.Clone(t.Resources), t.SSH...)
	}))
	c.Flags().Bool("json", false, "for programs: with the end of it")
	c.Flags().DurationVar(&lasts, "for", lasts, "good for this long, with --task and --on")
	c.Flags().StringSliceVar(&from, "from", nil, "good from these addresses or ranges alone, as the gateway sees them, with --task and --on")
	return c
}

func psqlCommand() *cobra.Command {
	task, lasts := "", 8*time.Hour
	c := &cobra.Command{Use: "psql RESOURCE [-- PSQL ARGUMENTS]", Short: "run psql on a resource, for a task", Annotations: map[string]string{away: "yes"},
		Long:    "Runs psql (of the package postgresql-client) with a token for this task on this resource. `taskgate login` comes first, `taskgate whoami` lists your tasks. What stands behind -- goes to psql.",
		Example: "  taskgate psql shop --task look\n  taskgate psql shop --task look -- -c 'select 1'", Args: behindDash("psql", "taskgate psql RESOURCE --task TASK -- -c 'select 1'"), RunE: func(cmd *cobra.Command, args []string) error {
			k, err := loadKept()
			if err != nil {
				return err
			}
			m, err := k.me(cmd.Context())
			if err != nil {
				return err
			}
			if task, err = chooseTask(m, task, args[0]); err != nil {
				return err
			}
			if m.Postgres.Address == "" {
				return hinted{errors.New("this gateway does not speak PostgreSQL"), "its operator adds `listeners: {postgres: …}`"}
			}
			host, port, err := k.reach(m.Postgres.Address)
			if err != nil {
				return err
			}
			program, err := exec.LookPath("psql")
			if err != nil {
				return hinted{err, "install the package postgresql-client"}
			}
			t, err := k.narrow(cmd.Context(), task, args[0], lasts, nil)
			if err != nil {
				return err
			}
			mode := "disable"
			if m.Postgres.TLS {
				mode = "verify-full"
			}
			env := slices.DeleteFunc(os.Environ(), func(e string) bool {
				name, _, _ := strings.Cut(e, "=")
				return slices.Contains([]string{"PGPASSWORD", "PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "PGSERVICE"}, name) || name == "PGSSLROOTCERT" && k.CA != ""
			})
			// The token goes by the environment: arguments can be read by every user of the host.
			env = append(env, "PGPASSWORD="+t.Token, "PGHOST="+host, "PGPORT="+port, "PGUSER="+task, "PGDATABASE="+args[0], "PGSSLMODE="+mode)
			if k.CA != "" {
				env = append(env, "PGSSLROOTCERT="+k.CA)
			}
			return syscall.Exec(program, append([]string{"psql"}, args[1:]...), env)
		}}
	c.Flags().StringVar(&task, "task", "", "the task; may be left out where only one of yours covers the resource")
	_ = c.RegisterFlagCompletionFunc("task", mine(func(t server.TaskStatus) []string { return []string{t.Name} }))
	c.ValidArgsFunction = mine(func(t server.TaskStatus) []string { return t.Resources })
	c.Flags().DurationVar(&lasts, "for", lasts, "end the session after this long at the latest")
	return c
}

// reach gives host and port of a listener. One that listens everywhere is where
// the API was reached.
func (k *kept) reach(address string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(address); err != nil {
		return "", "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		u, err := url.Parse(k.Gateway)
		if err != nil {
			return "", "", err
		}
		host = u.Hostname()
	}
	return host, port, nil
}

// behindDash takes one resource; what is another program's own stands behind --.
func behindDash(program, how string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		ours := cmd.ArgsLenAtDash()
		if ours < 0 {
			ours = len(args)
		}
		behind := fmt.Sprintf("%s's own flags go behind --: %s", program, how)
		switch {
		case cmd.Flags().Changed("config") || cmd.Flags().Changed("set"):
			return hinted{fmt.Errorf("-c, --config and --set are of the gateway, whose configuration %s does not read", program), behind}
		case ours == 0:
			return hinted{errors.New("the resource is missing"), how}
		case ours > 1:
			return hinted{fmt.Errorf("one resource is expected, and %q stands there too", args[1]), fmt.Sprintf("the task goes by --task, and what is %s's own behind --: %s", program, how)}
		}
		return nil
	}
}

// mine completes with something of the tasks that one has.
func mine(of func(server.TaskStatus) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
		k, err := loadKept()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
		defer stop()
		m, err := k.me(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, t := range m.Tasks {
			names = append(names, of(t)...)
		}
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}

// chooseTask takes the task that was named, or the only one that covers the resource.
func chooseTask(m *server.Me, task, resource string) (string, error) {
	var cover []string
	for _, t := range m.Tasks {
		if slices.Contains(t.Resources, resource) {
			cover = append(cover, t.Name)
		}
	}
	switch {
	case task != "":
		return task, nil
	case len(cover) == 1:
		return cover[0], nil
	case len(cover) == 0:
		return "", hinted{fmt.Errorf("no task of yours covers the resource %q", resource), "`taskgate whoami` lists your tasks and their resources"}
	}
	return "", hinted{fmt.Errorf("several of your tasks cover the resource %q", resource), "name one with --task: " + strings.Join(cover, ", ")}
}
