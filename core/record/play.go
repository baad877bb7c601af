package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Playing is how a recording is played.
type Playing struct {
	Speed float64       // 2 is twice as fast
	Seek  time.Duration // what was before is shown at once
	Idle  time.Duration // the longest time in which nothing happens; 0 is as it was
	Only  uint64        // the number of one command; 0 is all

	wait func(ctx context.Context, at time.Duration) error // until so long after the beginning
}

// Play shows on a terminal what the programs of an SSH session showed, when
// they did, until ctx is done. What a recording has for the terminal itself
// rather than for the eye does not reach it, and in the end it is as it was.
func Play(ctx context.Context, w io.Writer, path string, o Playing) error {
	s, err := Summarize(path)
	if err != nil {
		return err
	}
	if err := s.screened(o.Only); err != nil {
		return err
	}
	if o.wait == nil {
		began := time.Now()
		o.wait = func(ctx context.Context, at time.Duration) error { return sleep(ctx, time.Until(began.Add(at))) }
	}
	var (
		t            tame
		shown, clock time.Duration // in the recording, and of who looks at it
	)
	err = show(path, s, o.Only, func(e shot) error {
		if e.kind != shotOut {
			return nil // what a person typed is on the screen where it was echoed
		}
		gap := e.at - max(shown, o.Seek)
		if o.Idle > 0 {
			gap = min(gap, o.Idle)
		}
		if shown = e.at; gap > 0 {
			clock += time.Duration(float64(gap) / o.Speed)
			if err := o.wait(ctx, clock); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := io.WriteString(w, t.text(e.data))
		return err
	})
	if _, werr := io.WriteString(w, t.reset()); werr != nil {
		return werr
	}
	switch {
	case errors.Is(err, ErrTorn):
		_, err = fmt.Fprintf(w, "%v: the session goes on, or its gateway was killed\r\n", ErrTorn)
	case errors.Is(err, context.Canceled):
		err = nil
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
