// Command server starts the demonstration's database: a throw-away PostgreSQL
// with a small shop in it. It prints what a shell needs to know, with -env as
// what gateway.yaml is to be overlaid with, and ends with its standard input.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/taskgate/taskgate/internal/pgtest"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	s, err := pgtest.Start(15)
	if err != nil {
		return err
	}
	defer func() {
		if e := s.Stop(); err == nil {
			err = e
		}
	}()
	if err := s.Database("shop", pgtest.Shop); err != nil {
		return err
	}
	if len(os.Args) > 1 && os.Args[1] == "-env" {
		fmt.Printf("export SHOP_PASSWORD=%s TASKGATE_RESOURCES__SHOP__ADDRESS=localhost:%d TASKGATE_RESOURCES__SHOP__TLS=verify-full TASKGATE_RESOURCES__SHOP__CA=file:%s\n", s.Password, s.Port, s.CA)
	} else {
		fmt.Printf("PORT=%d CA=%s PASSWORD=%s\n", s.Port, s.CA, s.Password)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
