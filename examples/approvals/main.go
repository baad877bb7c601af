// Command approvals is a receiver of the gateway's webhooks, as one stands
// between it and a chat: what comes is printed as a chat would show it, and what
// people say is read from standard input and sent back, signed.
//
//	approvals --secret FILE --gateway https://GATEWAY:PORT [--listen 127.0.0.1:9000]
//
// Each line of standard input is what somebody of the chat has said:
//
//	SUBJECT approve|deny ID CODE REASON
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "where the gateway's webhook goes to")
	gateway := flag.String("gateway", "", "the gateway's API")
	secret := flag.String("secret", "", "file of the webhook's secret, the same as the gateway's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *gateway, *secret); err != nil {
		fmt.Fprintln(os.Stderr, "approvals:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen, gateway, secret string) error {
	text, err := os.ReadFile(secret)
	if err != nil {
		return err
	}
	r := &Receiver{Gateway: strings.TrimRight(gateway, "/"), Post: func(text string) { fmt.Println(text) }}
	if r.Secret, err = parseSecret(string(text)); err != nil {
		return fmt.Errorf("%s: %w", secret, err)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second}
	fmt.Println("http://" + l.Addr().String())
	go r.chat(ctx, bufio.NewScanner(os.Stdin)) // ends with the process
	context.AfterFunc(ctx, func() { _ = s.Close() })
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// chat reads what people say. A real receiver takes the subject from the chat's
// own account of who typed: whoever may write it here may speak for everybody.
func (r *Receiver) chat(ctx context.Context, lines *bufio.Scanner) {
	for lines.Scan() {
		word := strings.Fields(lines.Text())
		if len(word) < 5 {
			r.Post("SUBJECT approve|deny ID CODE REASON")
			continue
		}
		answer, err := r.Act(ctx, word[0], word[1], word[2], word[3], strings.Join(word[4:], " "))
		if err != nil {
			answer = err.Error()
		}
		r.Post(fmt.Sprintf("%s, %s: %s", word[0], word[2], answer))
	}
}
