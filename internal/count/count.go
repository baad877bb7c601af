// Package count says how many there are of something.
package count

import (
	"fmt"
	"strings"
)

// Of gives a number with its noun: 1 row, 2 rows, 2 entries.
func Of[N ~int | ~int64 | ~uint32 | ~uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "ry"); ok {
		return fmt.Sprintf("%d %sries", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
