package catalog

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

const hiding = `task: x
resources: [web-1]
allow:
  - {files: {read: [/etc/app/**]}}
  - {exec: [[id]]}
mask:
  - {files: [/etc/app/*.conf], lines: 'password=(\S+)', with: fixed("***")}
  - {exec: [[id]], field: 2, separator: ':', with: 'null'}
`

func TestTexts(t *testing.T) {
	c, err := load(t, map[string]string{"x.yaml": hiding})
	if err != nil {
		t.Fatal(err)
	}
	x := c.Tasks["x"]
	if got := x.compiled().Texts; len(got) != 2 || got[0].Mask.Pattern != `password=(\S+)` || got[0].Mask.Arg != "***" || got[0].Mask.Kind != abi.MaskFixed || got[1].Mask.Field != 2 || got[1].Mask.Separator != ":" || got[0].At != "x.yaml:7" {
		t.Errorf("%+v", got)
	}
	was := x.Digest()
	for from, to := range map[string]string{"password": "passphrase", "field: 2": "field: 3", "app/*.conf": "app/*.ini"} {
		if c, err := load(t, map[string]string{"x.yaml": strings.Replace(hiding, from, to, 1)}); err != nil || c.Tasks["x"].Digest() == was {
			t.Errorf("%s: the same digest, %v", to, err)
		}
	}
	c, err = load(t, map[string]string{"x.yaml": strings.Replace(hiding, "[[id]], field", "[[uptime]], field", 1)})
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings.Err().Error(), "the mask at x.yaml:8 masks nothing") {
		t.Errorf("%v %v", c.Warnings, err)
	}
}

// TestTextFaults: each with its line and column, all of them at once.
func TestTextFaults(t *testing.T) {
	const head = "task: x\nresources: [web-1]\nallow:\n  - {files: {read: [/a/**]}}\nmask:\n"
	for line, want := range map[string]string{
		`{files: [/a/x], lines: '(', with: hash}`:                                                `x.yaml:6:5: mask[0]: error parsing regexp`,
		`{files: [a/x], lines: a, with: hash}`:                                                   `an absolute path is expected`,
		`{files: [/a/x], with: hash}`:                                                            `which part of a line?`,
		`{files: [/a/x], lines: a}`:                                                              `with what?`,
		`{lines: a, with: hash}`:                                                                 `either of programs or of files`,
		`{files: [/a/x], exec: [[a]], lines: a, with: hash}`:                                     `either of programs or of files`,
		`{files: [/a/x], lines: a, with: custom}`:                                                `custom`,
		`{files: [/a/x], lines: a, with: trunc("day")}`:                                          `mask[0]:`,
		`{files: [/a/x], field: 0, with: hash}`:                                                  `a number from 1 is expected`,
		`{files: [/a/x], lines: a, separator: ':', with: hash}`:                                  `separator is for field`,
		`{files: [], lines: a, with: hash}`:                                                      `no path is listed`,
		`{exec: [[a b]], lines: a, with: hash}`:                                                  `each word stands by itself`,
		"{files: [/a/x], lines: a, with: hash}\nreview:\n  - {shell: allow, by: {groups: [a]}}":  `review[0]: shell: allow shows everything`,
		"{files: [/a/x], lines: a, with: hash}\nreview:\n  - {opaque: allow, by: {groups: [a]}}": `review[0]: opaque: allow lets everything be shown`,
	} {
		_, err := load(t, map[string]string{"x.yaml": head + "  - " + line + "\n"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant %s", line, err, want)
		}
	}
}
