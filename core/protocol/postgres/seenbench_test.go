package postgres

import (
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/gate"
)

// BenchmarkSeen is what a session spends on judging a text that it has seen
// before: what the text means is remembered, and so is what the guards said of
// it. What is written down goes nowhere here; a verdict is measured with its end.
func BenchmarkSeen(b *testing.B) {
	const text = `SELECT o.id, o.status, o.total, c.name, c.email FROM orders o JOIN customers c ON c.id = o.customer_id
WHERE o.id = $1 AND o.status <> 'closed' AND c.email = $2 ORDER BY o.created DESC LIMIT 10`
	g := serve(b, &rules{allow: anything})
	g.Log, g.Recorder = unlogged{}, unrecorded{}
	g.connect(b)
	c := g.protocol.conns()[0] // which rests: its client says nothing
	judge := func() *gate.Exchange {
		_, ex, _, err := c.judge(b.Context(), text, abi.Execute)
		if err != nil {
			b.Fatal(err)
		}
		return ex
	}
	if err := judge().Done(b.Context(), gate.Outcome{State: gate.Completed}); err != nil {
		b.Fatal(err)
	}
	b.Run("meaning", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.understand(text, c.names.path); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verdict", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := judge().Done(b.Context(), gate.Outcome{State: gate.Completed}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type unrecorded struct{}

func (unrecorded) Record(string) (gate.Recording, error) { return unrecorded{}, nil }
func (unrecorded) Append([]byte) error                   { return nil }
func (unrecorded) Head() int                             { return 0 }
func (unrecorded) Close() error                          { return nil }
