package sql_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/sql"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// tasks is the tasks guard outside a sandbox.
type tasks struct {
	gate.Guard
	config policy.Config
}

func (t *tasks) Name() string { return "tasks" }
func (t *tasks) May() abi.May { return abi.May{Allow: true, Review: true, Mask: true} }

// TestMaskingGuide: what docs/masking.md says of texts under its task is so.
func TestMaskingGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/masking.md")
	if err != nil {
		t.Fatal(err)
	}
	const own = "## Finding somebody"
	before, section, _ := strings.Cut(string(guide), own)
	section, behind, _ := strings.Cut(section, "\n## ")
	if rows := guided(t, "customer-care", before+behind); rows < 15 {
		t.Errorf("%d rows are read", rows)
	}
	if rows := guided(t, "lookup", section); rows < 12 {
		t.Errorf("%d rows are read of %s", rows, own)
	}
}

// guided holds what a part of the guide says of texts against the task that it
// has, and gives how much it says.
func guided(t *testing.T, task, guide string) (rows int) {
	t.Helper()
	_, file, _ := strings.Cut(guide, "```yaml\n")
	file, _, _ = strings.Cut(file, "```")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, task+".yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Load(dir)
	if err != nil || len(c.Warnings) > 0 {
		t.Fatal(err, c.Warnings)
	}
	b, _, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	guard := &tasks{}
	if err := json.Unmarshal(b, &guard.config); err != nil {
		t.Fatal(err)
	}
	under := *loaded(t)
	under.Filter = sql.NewFilter(c.Tasks[task].Filtered())
	for line := range strings.Lines(guide) {
		text, want, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | ")
		if want = strings.TrimSuffix(want, " |\n"); !ok || !strings.HasPrefix(line, "| `") || !strings.HasPrefix(want, "masked") && !strings.HasPrefix(want, "refused: ") && !strings.HasPrefix(want, "nothing") {
			continue
		}
		rows++
		text = strings.ReplaceAll(text, `\|`, "|")
		a, err := sql.Analyze(&under, text)
		if err == nil {
			a, err = a.Resolve(sql.NoNames{})
		}
		if err != nil {
			t.Fatal(text, err)
		}
		v := &abi.Verdict{}
		guard.config.Judge(&abi.Command{Phase: abi.Execute, Session: &abi.Session{Task: task}, Statement: a.Statement}, v)
		e := gate.Explain(a.Statement, []gate.Guard{guard}, []*abi.Verdict{v})
		got := "nothing of it is masked"
		switch {
		case e.Refused != nil:
			got = "refused: " + e.Refused.Reason.Message
		case e.Verdict.Decision != abi.Allow:
			got = "refused: " + e.Verdict.Reason.Message
		case len(e.Masks) > 0:
			got = "masked, by " + e.Masks[0].Rule.String()
		}
		said, _, _ := strings.Cut(want, " (") // in brackets stands why
		word, rest, _ := strings.Cut(said, " ")
		if !strings.HasPrefix(got, word) || !strings.Contains(got, rest) {
			t.Errorf("%s: %q, and the guide says %q", text, got, want)
		}
	}
	return rows
}
