// Command server starts the demonstration's database: a throw-away PostgreSQL
// with a small shop in it. It prints what a shell needs to know, and ends with
// its standard input.
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
	fmt.Printf("PORT=%d CA=%s PASSWORD=%s\n", s.Port, s.CA, s.Password)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
