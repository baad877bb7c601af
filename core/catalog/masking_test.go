package catalog

import (
	"os"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/mask"
)

// TestMaskingGuide: each mask that docs/masking.md shows gives what it says. Of
// those with a key the form counts.
func TestMaskingGuide(t *testing.T) {
	b, err := os.ReadFile("../../docs/masking.md")
	if err != nil {
		t.Fatal(err)
	}
	classes := map[string]abi.Class{"any": abi.ClassOther, "text": abi.ClassText, "numeric": abi.ClassNumeric, "int4": abi.ClassInt4, "uuid": abi.ClassUUID, "date": abi.ClassDate, "timestamptz": abi.ClassTimestampTZ}
	_, table, _ := strings.Cut(string(b), "## The masks")
	seen := map[abi.MaskKind]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) < 4 || !strings.HasPrefix(cells[0], "`") || cells[0] == "`with`" || strings.Contains(cells[0], "oracle") || strings.HasPrefix(cells[1], "passes") || strings.HasPrefix(cells[1], "refused") {
			continue
		}
		with, show, _ := strings.Cut(strings.ReplaceAll(cells[0], "`", ""), ", nulls: ")
		r, err := mask.ParseRule(with)
		if err != nil {
			t.Error(err)
			continue
		}
		r.Nulls = show == "show"
		class, ok := classes[cells[1]]
		if err := mask.Check(r, class); err != nil || !ok {
			t.Errorf("%s: %s: %v", with, cells[1], err)
		}
		seen[r.Kind] = true
		key := make([]byte, 32)
		op := mask.Compile(r, class, func(string) []byte { return key })
		in := strings.Trim(cells[2], "`")
		out, null := op.Append(nil, []byte(in), in == "NULL", false)
		got, want := string(out), strings.Trim(cells[3], "`")
		if null {
			got = "NULL"
		}
		if r.Kind == abi.MaskHash || r.Kind == abi.MaskTokenize {
			got, want = form(r.Kind, got), form(r.Kind, want)
		}
		if got != want {
			t.Errorf("%s of %s is %s, and the guide says %s", with, in, got, want)
		}
	}
	for k := abi.MaskNull; k < abi.MaskCustom; k++ {
		if !seen[k] {
			t.Errorf("the guide does not show mask %d", k)
		}
	}
}

func form(k abi.MaskKind, s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case k == abi.MaskHash && (r >= '0' && r <= '9' || r >= 'a' && r <= 'f'):
			return 'x'
		case r >= '0' && r <= '9':
			return '0'
		case r >= 'A' && r <= 'Z':
			return 'A'
		case r >= 'a' && r <= 'z':
			return 'a'
		}
		return r
	}, s)
}
