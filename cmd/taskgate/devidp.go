package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgate/taskgate/core/devidp"
)

func devIDPCommand() *cobra.Command {
	var address, users, client string
	c := &cobra.Command{Use: "dev-idp", Short: "a small identity provider for development, on loopback alone", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
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
			return hinted{err, `the file is JSON: {"ada": {"password": "…", "groups": ["task:order-support"]}}`}
		}
		l, issuer, err := p.Listen(address)
		if err != nil {
			return err
		}
		fmt.Println(issuer)
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return p.Run(ctx, l)
	}}
	c.Flags().StringVar(&address, "address", "127.0.0.1:5556", "where to listen")
	c.Flags().StringVar(&users, "users", "users.json", "who there is, with passwords and groups")
	c.Flags().StringVar(&client, "client", "taskgate", "the client id that tokens are for")
	return c
}

func devTokenCommand() *cobra.Command {
	var issuer, name, password, client string
	c := &cobra.Command{Use: "dev-token", Short: "a token of the development identity provider", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		web := &http.Client{Timeout: 10 * time.Second}
		resp, err := web.PostForm(issuer+"/token", url.Values{"grant_type": {"password"}, "client_id": {client}, "username": {name}, "password": {password}})
		if err != nil {
			return hinted{fmt.Errorf("no provider answers on %s", issuer), "run `taskgate dev-idp`"}
		}
		defer resp.Body.Close()
		var t struct {
			Token string `json:"id_token"`
			Error string `json:"error"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&t); err != nil {
			return err
		}
		if t.Token == "" {
			return fmt.Errorf("the provider refused: %s", t.Error)
		}
		fmt.Println(t.Token)
		return nil
	}}
	c.Flags().StringVar(&issuer, "issuer", "http://127.0.0.1:5556", "the provider")
	c.Flags().StringVar(&name, "user", "", "who")
	c.Flags().StringVar(&password, "password", "", "the password")
	c.Flags().StringVar(&client, "client", "taskgate", "the client id")
	return c
}
