package nearest

import "testing"

// TestWord: a slip is named, what is far off is not.
func TestWord(t *testing.T) {
	names := func(yield func(string) bool) {
		for _, n := range []string{"verbs", "where", "by", "on"} {
			if !yield(n) {
				return
			}
		}
	}
	for key, want := range map[string]string{"verb": "verbs", "wher": "where", "xyz": "", "q": "", "byy": "by"} {
		if got := Word(key, names); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
}
