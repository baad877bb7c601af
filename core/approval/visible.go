package approval

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unseen says whether a character does something else on a screen than to
// show itself: it controls, reorders, or has no width.
func unseen(c rune) bool {
	return !unicode.IsPrint(c) || unicode.In(c, unicode.Bidi_Control, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || c == '\u034f' || c == '\u2800'
}

// Visible gives a text as it may be shown on a terminal or a page: whatever is
// not seen as itself is named, as <U+202E>, but for line feeds and tabs. What is
// not UTF-8 is shown by its bytes, as <0xFF>.
func Visible(s string) string {
	var b strings.Builder
	for i, w := 0, 0; i < len(s); i += w {
		var c rune
		c, w = utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && w == 1:
			fmt.Fprintf(&b, "<0x%02X>", s[i])
		case c == '\n' || c == '\t' || !unseen(c):
			b.WriteString(s[i : i+w])
		default:
			fmt.Fprintf(&b, "<%U>", c)
		}
	}
	return b.String()
}

// strange lists the characters that Visible has to name, each once.
func strange(texts ...string) (found []string) {
	for _, s := range texts {
		for _, c := range s {
			if name := fmt.Sprintf("%U", c); (unseen(c) && c != '\n' && c != '\t' || c == utf8.RuneError) && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	return found
}
