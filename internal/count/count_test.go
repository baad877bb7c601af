package count

import "testing"

func TestOf(t *testing.T) {
	for want, got := range map[string]string{"0 rows": Of(0, "row"), "1 row": Of(uint64(1), "row"), "2 rows": Of(int64(2), "row"), "1 entry": Of(1, "entry"), "3 entries": Of(3, "entry")} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
