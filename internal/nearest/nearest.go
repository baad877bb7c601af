// Package nearest finds the word that somebody may have meant.
package nearest

import "iter"

// Word gives the name that was probably meant, or nothing.
func Word(key string, names iter.Seq[string]) string {
	best, most := "", 3
	for name := range names {
		if d := distance(key, name); d >= len(name) {
			continue // nothing of it is left
		} else if d < most || d == most && name < best && best != "" {
			best, most = name, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, last+cost)
			last, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
