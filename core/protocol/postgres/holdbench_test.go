package postgres

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/approval"
	"github.com/taskgate/taskgate/core/audit"
	"github.com/taskgate/taskgate/core/record"
	"github.com/taskgate/taskgate/core/store"
)

// BenchmarkHold is what a hold adds to an update, with log, recording and store
// on disk: ask-ms from the client's message until people are told, of which
// count-ms finds out how many rows it would change; decide-ms from the word of
// who approves until the client has its answer; plain-ms is the same update
// where nobody is asked. Medians; adds-ms is ask and decide without plain.
func BenchmarkHold(b *testing.B) {
	h := &holds{holds: func(c *abi.Command) bool { return c.Statement.Writes() }}
	g := serve(b, h)
	dir := b.TempDir()
	log, _, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	rec, err := record.Open(filepath.Join(dir, "recordings"), 64<<10)
	if err != nil {
		b.Fatal(err)
	}
	rows, err := store.Open(b.Context(), filepath.Join(dir, "store.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = log.Run(ctx) })
	wg.Go(func() { _ = rec.Run(ctx) })
	defer wg.Wait()
	defer stop()
	told := make(chan *approval.Card, 100)
	s := &approval.Service{Store: rows, Log: log, Groups: func(context.Context, string, string) ([]string, error) { return []string{"dba"}, nil },
		Notify: func(e approval.Event) {
			if e.What == "asked" {
				told <- e.Card
			}
		}}
	g.Log, g.Recorder, g.Approver = log, rec, s
	pg := g.connect(b).PgConn()
	text := "update items set quantity = quantity + 1 where id = 1"
	run := func() {
		if _, err := pg.Exec(ctx, text).ReadAll(); err != nil {
			b.Fatal(err)
		}
	}
	g.Swap(generation(&rules{allow: noDelete}))
	run()
	var plain, ask, decide []time.Duration
	for range 100 {
		began := time.Now()
		run()
		plain = append(plain, time.Since(began))
	}
	g.Swap(generation(h))
	for b.Loop() {
		began := time.Now()
		done := make(chan error, 1)
		go func() { _, err := pg.Exec(ctx, text).ReadAll(); done <- err }()
		card := <-told
		ask = append(ask, time.Since(began))
		time.Sleep(5 * time.Millisecond) // people's time
		began = time.Now()
		if _, err := s.Decide(ctx, card.ID, bob, true, "yes", card.Code); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		decide = append(decide, time.Since(began))
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)/2].Microseconds()) / 1000
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ask), "ask-ms")
	b.ReportMetric(median(decide), "decide-ms")
	b.ReportMetric(median(plain), "plain-ms")
	b.ReportMetric(median(ask)+median(decide)-median(plain), "adds-ms")
}
