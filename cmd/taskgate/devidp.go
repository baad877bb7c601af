package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/devidp"
)

// usersExample is a file of users.
const usersExample = `{"ada": {"password": "…", "groups": ["task:order-support"]}}`

func devIDPCommand() *cobra.Command {
	var address, users, client string
	c := &cobra.Command{Use: "dev-idp", Short: "a small identity provider for development, on loopback alone (SIGHUP reads the users again)", Args: words,
		Long: "Runs an OpenID provider for development and tests, with passwords in a file: never for anything else. Prints its address, which is the issuer in gateway.yaml. The file of users is JSON:\n" + usersExample,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := &devidp.Provider{ClientID: client}
			read := func() error {
				b, err := os.ReadFile(users)
				if err != nil {
					return err
				}
				var list map[string]devidp.User
				if err := json.Unmarshal(b, &list); err != nil {
					return fmt.Errorf("%s: %w", users, err)
				}
				p.SetUsers(list)
				return nil
			}
			if err := read(); err != nil {
				return hinted{err, "the file is JSON: " + usersExample}
			}
			l, issuer, err := p.Listen(address)
			if errors.Is(err, syscall.EADDRINUSE) {
				return hinted{err, "something listens there already: --address 127.0.0.1:PORT is another, and gateway.yaml names it as the issuer"}
			}
			if err != nil {
				return err
			}
			fmt.Println(issuer)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			go func() { // ends with ctx
				for {
					select {
					case <-ctx.Done():
						return
					case <-hup:
						if err := read(); err != nil {
							fmt.Fprintf(os.Stderr, "taskgate: nothing has changed: %v\n", err)
						}
					}
				}
			}()
			return p.Run(ctx, l)
		}}
	c.Flags().StringVar(&address, "address", "127.0.0.1:5556", "where to listen")
	c.Flags().StringVar(&users, "users", "users.json", "who there is, with passwords and groups")
	c.Flags().StringVar(&client, "client", "taskgate", "the client id that tokens are for")
	return c
}

func devConfirmCommand() *cobra.Command {
	var name, password string
	c := &cobra.Command{Use: "dev-confirm URL CODE", Short: "confirm a login at the development identity provider, without its page", Annotations: map[string]string{away: "yes"},
		Long:    "Confirms a login that waits, for scripts and machines without a browser: URL and CODE are what `taskgate login` prints behind `open` and `code`. It works with `taskgate dev-idp` alone.",
		Example: "  taskgate dev-confirm http://127.0.0.1:5556/device BCDF-GHJK --user ada --password lovelace", Args: words, RunE: func(cmd *cobra.Command, args []string) error {
			if err := devidp.Confirm(cmd.Context(), args[0], args[1], name, password); err != nil {
				return hinted{err, "URL and CODE are what `taskgate login` prints behind open and code, and --user and --password those of a user of `taskgate dev-idp`"}
			}
			return nil
		}}
	c.Flags().StringVar(&name, "user", "", "who")
	c.Flags().StringVar(&password, "password", "", "the password")
	return c
}
