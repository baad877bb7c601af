package approval_test

import (
	"fmt"
	"testing"
)

// BenchmarkHold is everything that a hold adds to a command beside people's
// time: asked, decided, woken and used, each on disk.
func BenchmarkHold(b *testing.B) {
	w := newWorld(b)
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprint("bench", n)
		w.ask(request(id, 1, "dba"))
		if _, err := w.Decide(b.Context(), id, w.person("bob"), true, "yes", "k7qa"); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Service.Wait(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Spend(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}
