package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/config"
	"github.com/taskgate/taskgate/core/server"
)

func serveCommand() *cobra.Command {
	grace := 10 * time.Second
	c := &cobra.Command{Use: "serve", Short: "run the gateway", Args: words,
		Long: "Runs the gateway that the configuration describes, until SIGTERM or ctrl-C; SIGHUP is `taskgate reload`. Prints the addresses that it listens on as JSON, its log goes to standard error.\nThe first start compiles the guards, which takes some seconds. `taskgate check` names every fault beforehand.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := zerolog.New(os.Stderr).With().Timestamp().Logger()
			s := &server.Server{Config: source(cmd), Version: version, Log: log, Grace: grace}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // whoever cannot wait for sessions to end asks twice
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			ready := make(chan struct{})
			s.Ready = func(addresses map[string]string) {
				_ = json.NewEncoder(os.Stdout).Encode(addresses)
				close(ready)
			}
			go func() { // ends with ctx
				select {
				case <-ready:
				case <-ctx.Done():
					return
				}
				for {
					select {
					case <-ctx.Done():
						return
					case <-hup:
						_, _ = s.Reload(ctx, "SIGHUP") // the log has what became of it
					}
				}
			}()
			err := s.Run(ctx)
			if errors.Is(err, syscall.EADDRINUSE) {
				return hinted{err, "something listens there already: is a gateway running? Another address: --set listeners.postgres.address=HOST:PORT"}
			}
			if errors.Is(err, syscall.ENOSPC) {
				return hinted{err, "the audit log keeps two segments of 16 MB ready: make room there, or --set data=DIR on another disk"}
			}
			if err != nil && strings.Contains(err.Error(), "is in use by another process") {
				return hinted{err, "a gateway runs on that data directory already: `taskgate status` asks it, --set data=DIR is another"}
			}
			if err != nil && strings.Contains(err.Error(), "server: data: ") && !strings.Contains(err.Error(), "chmod") {
				return hinted{err, "`data:` in the configuration, or --set data=DIR, names a directory that the gateway's user can make or owns"}
			}
			return err
		}}
	c.Flags().DurationVar(&grace, "grace", grace, "how long sessions have to end in when the gateway stops")
	return c
}

// source is the configuration that the flags name.
func source(cmd *cobra.Command) config.Source {
	path, _ := cmd.Flags().GetString("config")
	set, _ := cmd.Flags().GetStringArray("set")
	return config.Source{Path: path, Set: set}
}
