package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/record"
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
	c := &cobra.Command{Use: "audit", Short: "the chained record of decisions"}
	c.PersistentFlags().String("data", "", "the data directory, if not the configuration's")
	var key, witness string
	verify := &cobra.Command{Use: "verify", Short: "prove that nothing was changed, removed or added", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		dir, err := dataDir(cmd)
		if err != nil {
			return err
		}
		pub := ""
		if key != "" {
			b, err := os.ReadFile(key)
			if err != nil {
				return err
			}
			pub = string(b)
		}
		rep, err := audit.Verify(filepath.Join(dir, "audit"), pub, witness)
		if err != nil {
			return err
		}
		for _, t := range rep.Torn {
			fmt.Printf("torn: %s\n", t.String())
		}
		word := "consistent"
		if rep.Witnessed {
			word = "complete up to the witness"
		}
		fmt.Printf("%s: %d records, %d checkpoints, the last signed one is %d\n", word, rep.Records, rep.Checkpoints, rep.Signed)
		return nil
	}}
	verify.Flags().StringVar(&key, "key", "", "file of the public key that you trust; the log's own proves nothing against whoever can replace it")
	verify.Flags().StringVar(&witness, "witness", "", "a witness's copy of the checkpoints")
	export := &cobra.Command{Use: "export", Short: "every record as a line of JSON", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		dir, err := dataDir(cmd)
		if err != nil {
			return err
		}
		enc := json.NewEncoder(os.Stdout)
		return audit.Read(filepath.Join(dir, "audit"), func(r audit.Record) error {
			e, err := gate.ReadEvent(r.Payload)
			if err != nil {
				return err
			}
			return enc.Encode(struct {
				Seq uint64 `json:"seq"`
				*gate.Event
			}{r.Seq, e})
		})
	}}
	c.AddCommand(verify, export)
	return c
}

// session is one recording as `taskgate sessions` lists it.
type session struct {
	ID       string    `json:"id"`
	Subject  string    `json:"subject"`
	Task     string    `json:"task"`
	Resource string    `json:"resource"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"`
	Commands int       `json:"commands"`
	Denied   int       `json:"denied"`
	Why      string    `json:"why,omitempty"`
}

func sessionsCommand() *cobra.Command {
	c := &cobra.Command{Use: "sessions", Short: "the recordings there are", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		dir, err := dataDir(cmd)
		if err != nil {
			return err
		}
		paths, err := filepath.Glob(filepath.Join(dir, "recordings", "*"+record.Extension))
		if err != nil {
			return err
		}
		var list []session
		for _, p := range paths {
			s := session{ID: strings.TrimSuffix(filepath.Base(p), record.Extension)}
			err := record.Read(p, func(e *gate.Event) error {
				switch e.Kind {
				case gate.EventOpen:
					s.Subject, s.Task, s.Resource, s.Began = e.Subject, e.Task, e.Resource, e.Time
				case gate.EventCommand:
					if e.Phase == "execute" {
						s.Commands++
					}
					if e.Decision != "allow" {
						s.Denied++
					}
				case gate.EventClose:
					s.Ended, s.Why = e.Time, e.Why
				}
				return nil
			})
			if err != nil && !errors.Is(err, record.ErrTorn) {
				return err
			}
			list = append(list, s)
		}
		sort.Slice(list, func(i, j int) bool { return list[i].Began.Before(list[j].Began) })
		if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
			return print(list)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "SESSION\tSUBJECT\tTASK\tRESOURCE\tBEGAN\tCOMMANDS\tDENIED")
		for _, s := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\n", s.ID, record.Escape(s.Subject), s.Task, s.Resource, s.Began.Format(time.DateTime), s.Commands, s.Denied)
		}
		return w.Flush()
	}}
	c.Flags().Bool("json", false, "for programs")
	c.Flags().String("data", "", "the data directory, if not the configuration's")
	return c
}

func replayCommand() *cobra.Command {
	c := &cobra.Command{Use: "replay SESSION", Short: "what a session did, and what it saw", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		dir, err := dataDir(cmd)
		if err != nil {
			return err
		}
		path, err := record.Path(filepath.Join(dir, "recordings"), args[0])
		if err != nil {
			return hinted{err, "`taskgate sessions` lists them"}
		}
		if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
			return record.JSON(os.Stdout, path)
		}
		return record.Replay(os.Stdout, path)
	}}
	c.Flags().Bool("json", false, "for programs")
	c.Flags().String("data", "", "the data directory, if not the configuration's")
	return c
}
