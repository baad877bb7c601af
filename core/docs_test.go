package core

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsNameTests: a test that the threat model or the rationale leans on is
// there, and a link within the documents leads somewhere.
func TestDocsNameTests(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Laws)\w*)\(`)
	have := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(b), -1) {
			have[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named, link := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`"), regexp.MustCompile(`\]\(([\w./-]*)(#[\w-]+)?\)`)
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, "../README.md", "../abi/SPEC.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			if !have[m[1]] {
				t.Errorf("%s: there is no %s", file, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			to := filepath.Join(filepath.Dir(file), m[1])
			if m[1] == "" {
				to = file
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", file, err)
			} else if m[2] != "" {
				if doc, err := os.ReadFile(to); err != nil || !anchors(string(doc))[m[2]] {
					t.Errorf("%s: %s has no %s", file, to, m[2])
				}
			}
		}
	}
}

// TestReadmeNamesGo: the README names the Go that go.mod asks for.
func TestReadmeNamesGo(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod))
	if m == nil || !strings.Contains(string(readme), "Go "+m[1]+",") {
		t.Errorf("go.mod has %v", m)
	}
}

// anchors are what the headings of a document can be linked by.
func anchors(doc string) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(doc) {
		if title := strings.TrimLeft(line, "#"); title != line {
			all["#"+strings.ReplaceAll(regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), ""), " ", "-")] = true
		}
	}
	return all
}

// TestLimitsOnce: no limit stands twice, and each has a severity.
func TestLimitsOnce(t *testing.T) {
	b, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| |") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 2 || seen[cells[0]] || strings.TrimSpace(cells[1]) == "" {
			t.Errorf("once, with a severity: %s", line)
		}
		seen[cells[0]] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d limits are found", len(seen))
	}
}
