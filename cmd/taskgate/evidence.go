package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/internal/count"
)

// dataDir gives the data directory: of the flag, else of the configuration.
func dataDir(cmd *cobra.Command) (string, error) {
	if dir, _ := cmd.Flags().GetString("data"); dir != "" {
		return dir, nil
	}
	c, err := config.Load(source(cmd))
	if err != nil {
		return "", err
	}
	return c.Data, nil
}

func auditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "the chained record of decisions",
		Long: "The audit log has every login, decision and outcome, each record with the hash of the one before it. It is read from the data directory: of the configuration (-c), or --data."}
	c.PersistentFlags().String("data", "", "the data directory, if not the configuration's")
	var key, witness, session string
	var asJSON bool
	verify := &cobra.Command{Use: "verify", Short: "prove that nothing was changed, removed or added", Args: words,
		Long: "Reads the whole audit log and says whether each record follows from the one before and each checkpoint is signed. Status 1 where it does not, with the place. The gateway may run meanwhile.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			pub := ""
			if key != "" {
				b, err := os.ReadFile(key)
				if pub = string(b); err == nil && !audit.IsPublicKey(pub) {
					err = fmt.Errorf("%s is no public key of an audit log", key)
				}
				if err != nil {
					return hinted{fmt.Errorf("--key: %w", err), "it is what stood in audit/key.pub of the data directory when you began to trust it"}
				}
			}
			var rep audit.Report
			if err = logged(dir); err == nil {
				rep, err = audit.Verify(filepath.Join(dir, "audit"), pub, witness)
			}
			if asJSON {
				return errors.Join(verified(rep, err), err)
			}
			for _, t := range rep.Torn {
				fmt.Printf("torn: %s\n", t.String())
			}
			for _, at := range rep.TornLines {
				fmt.Printf("torn: the checkpoint at %s is cut short\n", at)
			}
			if err != nil {
				return err
			}
			word := "consistent"
			if rep.Witnessed {
				word = "complete up to the witness"
			}
			signed := "none of them signed yet: a checkpoint is signed every minute, and when the gateway stops"
			if rep.Checkpoints > 0 {
				signed = fmt.Sprintf("signed up to %d by %s", rep.Signed, count.Of(rep.Checkpoints, "checkpoint"))
			}
			fmt.Printf("%s: %s, %s\n", word, count.Of(rep.Records, "record"), signed)
			return nil
		}}
	verify.Flags().StringVar(&key, "key", "", "file of the public key that you trust; the log's own proves nothing against whoever can replace it")
	verify.Flags().StringVar(&witness, "witness", "", "a witness's copy of the checkpoints")
	verify.Flags().BoolVar(&asJSON, "json", false, "for programs")
	export := &cobra.Command{Use: "export", Short: "every record as a line of JSON", Args: words,
		Long: "Prints the audit log, a JSON object a line, in the order in which it was written. It proves nothing: `taskgate audit verify` does.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			if err := logged(dir); err != nil {
				return err
			}
			enc := json.NewEncoder(os.Stdout)
			return audit.Read(filepath.Join(dir, "audit"), func(r audit.Record) error {
				e, err := gate.ReadEvent(r.Payload)
				if err != nil {
					return err
				}
				if session != "" && e.Session != session {
					return nil
				}
				return enc.Encode(struct {
					Seq uint64 `json:"seq"`
					*gate.Event
				}{r.Seq, e})
			})
		}}
	export.Flags().StringVar(&session, "session", "", "those of one session alone")
	_ = export.RegisterFlagCompletionFunc("session", recorded(func(s *record.Summary) string { return s.ID }))
	c.AddCommand(verify, export)
	return c
}

// logged says that there is no audit log in a data directory.
func logged(data string) error {
	if _, err := os.Stat(filepath.Join(data, "audit")); errors.Is(err, fs.ErrNotExist) {
		return hinted{fmt.Errorf("no audit log in %s", data), dataHint}
	}
	return nil
}

// dataHint helps where the data directory is not there.
const dataHint = "name the data directory with --data, or the configuration with -c; `taskgate serve` makes it"

// verified prints what a verification found, for programs.
func verified(rep audit.Report, err error) error {
	out := struct {
		Result      string   `json:"result"` // consistent, complete or bad
		Records     uint64   `json:"records"`
		Checkpoints int      `json:"checkpoints"`
		Signed      uint64   `json:"signed"`
		Witnessed   bool     `json:"witnessed"`
		Torn        []string `json:"torn,omitempty"`
		Error       string   `json:"error,omitempty"`
		Segment     string   `json:"segment,omitempty"` // where the first bad record is
		Offset      int      `json:"offset,omitempty"`
		First       uint64   `json:"first_bad,omitempty"`
	}{"consistent", rep.Records, rep.Checkpoints, rep.Signed, rep.Witnessed, rep.TornLines, "", "", 0, 0}
	for _, t := range rep.Torn {
		out.Torn = append(out.Torn, t.String())
	}
	switch bad, ok := errors.AsType[*audit.Bad](err); {
	case ok:
		out.Segment, out.Offset, out.First = bad.Segment, bad.Offset, bad.Seq
		fallthrough
	case err != nil:
		out.Result, out.Error = "bad", err.Error()
	case rep.Witnessed:
		out.Result = "complete"
	}
	return print(out)
}

// filter is which sessions are asked for.
type filter struct{ subject, task, resource, since, until string }

func (f *filter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.subject, "subject", "", "of this subject alone")
	c.Flags().StringVar(&f.task, "task", "", "for this task alone")
	c.Flags().StringVar(&f.resource, "resource", "", "on this resource alone")
	for name, of := range map[string]func(*record.Summary) string{
		"subject":  func(s *record.Summary) string { return s.Subject },
		"task":     func(s *record.Summary) string { return s.Task },
		"resource": func(s *record.Summary) string { return s.Resource },
	} {
		_ = c.RegisterFlagCompletionFunc(name, recorded(of))
	}
	c.Flags().StringVar(&f.since, "since", "", "that were not over then: 2026-12-31, 2026-12-31T10:00:00Z, or 24h ago")
	c.Flags().StringVar(&f.until, "until", "", "that had begun then, in the same forms")
}

// match gives what tells whether a session is asked for.
func (f *filter) match(now time.Time) (func(*record.Summary) bool, error) {
	since, err := when("--since", f.since, now)
	if err != nil {
		return nil, err
	}
	until, err := when("--until", f.until, now)
	if err != nil {
		return nil, err
	}
	return func(s *record.Summary) bool {
		return (f.subject == "" || s.Subject == f.subject) && (f.task == "" || s.Task == f.task) && (f.resource == "" || s.Resource == f.resource) &&
			(since.IsZero() || s.Ended.IsZero() || !s.Ended.Before(since)) && (until.IsZero() || !s.Began.After(until))
	}, nil
}

// when reads a time as an operator writes it: a day and a time without a zone
// are the machine's own.
func when(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(strings.TrimSuffix(strings.TrimSuffix(text, "ago"), " ")); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, hinted{fmt.Errorf("%s: %q is no time", flag, text), "write 24h, 2026-12-31, \"2026-12-31 10:00\" or 2026-12-31T10:00:00Z"}
}

// recorded completes with something of the recordings.
func recorded(of func(*record.Summary) string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
		if dir, err := recordings(cmd); err == nil && len(args) == 0 {
			all, _ := record.List(dir)
			for _, s := range all {
				if name := of(s); name != "" {
					names = append(names, name)
				}
			}
		}
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}

// recordings gives the directory of the recordings, which has to be there.
func recordings(cmd *cobra.Command) (string, error) {
	data, err := dataDir(cmd)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(data, "recordings")
	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrNotExist) {
		return "", hinted{fmt.Errorf("no recordings in %s", data), dataHint}
	} else if err != nil {
		return "", err
	}
	return dir, nil
}

func sessionsCommand() *cobra.Command {
	var f filter
	c := &cobra.Command{Use: "sessions", Short: "the recordings there are", Args: words,
		Long: "Lists the recordings in the data directory (of the configuration, or --data): who did what task where, how long it lasted, what became of the commands. `taskgate replay SESSION` shows one, `taskgate status` who is connected now.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			match, err := f.match(time.Now())
			if err != nil {
				return err
			}
			dir, err := recordings(cmd)
			if err != nil {
				return err
			}
			all, err := record.List(dir)
			if err != nil {
				return err
			}
			list := make([]*record.Summary, 0, len(all))
			bad := 0
			for _, s := range all {
				if s.State == "unreadable" { // whose it is nobody knows: it is always shown
					bad++
				} else if !match(s) {
					continue
				}
				list = append(list, s)
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				err = print(list)
			} else {
				err = table(list)
			}
			if err == nil && bad > 0 {
				return fmt.Errorf("%s cannot be read", count.Of(bad, "recording"))
			}
			return err
		}}
	f.flags(c)
	c.Flags().Bool("json", false, "for programs")
	c.Flags().String("data", "", "the data directory, if not the configuration's")
	return c
}

func table(list []*record.Summary) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SESSION\tSUBJECT\tTASK\tRESOURCE\tBEGAN\tLASTED\tCOMMANDS\tBYTES\tDENIED\tHELD\tMASKED\tOUTCOMES")
	for _, s := range list {
		if s.State == "unreadable" {
			fmt.Fprintf(w, "%s\tunreadable: %s\n", record.Escape(s.ID), record.Escape(s.Fault))
			continue
		}
		lasted := s.State
		if s.State == "ended" {
			lasted = s.Ended.Sub(s.Began).Round(time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", s.ID, record.Escape(s.Subject), record.Escape(s.Task), record.Escape(s.Resource),
			s.Began.Local().Format(time.DateTime), lasted, s.Commands, s.Bytes, s.Denied, len(s.Reviews), s.Masked, s.Outcomes)
	}
	return w.Flush()
}

func replayCommand() *cobra.Command {
	var how record.Playing
	var text bool
	var cast string
	c := &cobra.Command{Use: "replay SESSION", Short: "what a session did, and what it saw", Args: words, ValidArgsFunction: recorded(func(s *record.Summary) string { return s.ID }),
		Long: "Shows a recording that `taskgate sessions` lists: each command with its decision, what became of it and what came back. One of a terminal is played where standard output is a terminal; everything else is printed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, _ := cmd.Flags().GetBool("json")
			asked := false // to play it, whatever it is
			for _, f := range []string{"speed", "seek", "idle"} {
				asked = asked || cmd.Flags().Changed(f)
			}
			switch {
			case !(how.Speed >= 0.01 && how.Speed <= 1000):
				return hinted{fmt.Errorf("--speed: %v is no speed", how.Speed), "1 is as it was, 2 twice as fast; from 0.01 to 1000"}
			case how.Seek < 0 || how.Idle < 0:
				return errors.New("--seek and --idle: a time is not below 0")
			}
			path, err := recording(cmd, args[0])
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return record.JSON(os.Stdout, path)
			case cast != "":
				return exportCast(cast, path, how.Only)
			case text || !term.IsTerminal(int(os.Stdout.Fd())):
				return record.Replay(os.Stdout, path)
			}
			s, err := record.Summarize(path)
			if err != nil {
				return err
			}
			if !s.Terminal && !asked {
				return record.Replay(os.Stdout, path)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			if cols, rows := s.Size(); s.Terminal {
				if w, h, err := term.GetSize(int(os.Stdout.Fd())); err == nil && (w < cols || h < rows) {
					fmt.Fprintf(os.Stderr, "taskgate: it was recorded on a terminal of %dx%d, this one has %dx%d\n", cols, rows, w, h)
				}
			}
			return screenless(record.Play(ctx, os.Stdout, path, how))
		}}
	c.Flags().Bool("json", false, "for programs")
	c.Flags().BoolVar(&text, "text", false, "print it, also where it could be played on this terminal")
	c.Flags().StringVar(&cast, "cast", "", "write an asciicast (version 3) to this file; - is standard output")
	c.Flags().Float64Var(&how.Speed, "speed", 1, "play so many times as fast")
	c.Flags().DurationVar(&how.Seek, "seek", 0, "show at once what was before that time of the session: 90s, 1h2m")
	c.Flags().DurationVar(&how.Idle, "idle", 0, "wait no longer than that where nothing happened; 0 is as long as it was")
	c.Flags().Uint64Var(&how.Only, "command", 0, "play or export this command alone, by its number")
	c.MarkFlagsMutuallyExclusive("json", "text", "cast")
	c.Flags().String("data", "", "the data directory, if not the configuration's")
	return c
}

// recording gives the file of a session's recording, which has to be there.
func recording(cmd *cobra.Command, session string) (string, error) {
	dir, err := recordings(cmd)
	if err != nil {
		return "", err
	}
	path, err := record.Path(dir, session)
	if err != nil {
		return "", hinted{err, "`taskgate sessions` lists them"}
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", hinted{fmt.Errorf("no recording of a session %s", session), "`taskgate sessions` lists them"}
	}
	return path, nil
}

// exportCast writes an asciicast where it hides no other file, for its owner alone.
func exportCast(name, path string, only uint64) error {
	if name == "-" {
		return screenless(record.Cast(os.Stdout, path, only))
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(record.Cast(f, path, only), f.Close()); err != nil {
		return screenless(errors.Join(err, os.Remove(name)))
	}
	return nil
}

// screenless says what to do instead where there is nothing for a terminal.
func screenless(err error) error {
	if errors.Is(err, record.ErrNoScreen) {
		return hinted{err, "leave out --cast, --speed, --seek and --idle: it is printed then"}
	}
	return err
}
