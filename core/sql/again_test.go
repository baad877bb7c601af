package sql_test

import (
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/taskgate/taskgate/core/sql"
)

// TestMemoryIsNotShared: what an analysis gives is its own, though the memory it
// was made in is used again, by others at the same time: it stays as it was, and
// is the same whatever was read before.
func TestMemoryIsNotShared(t *testing.T) {
	c := loaded(t)
	var texts []string
	for _, path := range []string{"testdata/analysis.txt", "testdata/psql15.sql", "testdata/psql18.sql", "testdata/tools.sql", "testdata/analytics.sql"} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(raw), "\n") {
			if line = strings.TrimPrefix(line, "> "); line != "" && !strings.HasPrefix(line, "--") {
				texts = append(texts, line)
			}
		}
	}
	type read struct {
		a    *sql.Analysis
		said string
	}
	tell := func(a *sql.Analysis, err error) string {
		if err != nil {
			return err.Error()
		}
		b, err := json.MarshalIndent(a, "", " ")
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	first := make([]read, len(texts))
	for i, text := range texts {
		a, err := sql.Analyze(c, text)
		first[i] = read{a, tell(a, err)}
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range texts {
				k := (i*7 + w*len(texts)/4) % len(texts)
				a, err := sql.Analyze(c, texts[k])
				if said := tell(a, err); said != first[k].said {
					t.Errorf("%s: read again:\n%s\nat first:\n%s", texts[k], said, first[k].said)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range first {
		if first[i].a != nil && tell(first[i].a, nil) != first[i].said {
			t.Errorf("%s: has changed since", texts[i])
		}
	}
}
