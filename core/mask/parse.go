package mask

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/internal/nearest"
)

// word is a mask as a task file names it.
type word struct {
	name  string
	kind  abi.MaskKind
	bare  bool   // may stand without an argument
	wants string // what it expects, for people
}

var words = []word{
	{"null", abi.MaskNull, true, `nothing is expected behind it, as in null`},
	{"fixed", abi.MaskFixed, false, `what stands instead is expected in double quotes, as in fixed("x")`},
	{"keep", abi.MaskKeep, false, `how many characters stay at the beginning and at the end is expected, as in keep(2, 4)`},
	{"keep_from", abi.MaskKeep, false, `what to keep from on is expected in double quotes, as in keep_from("@")`},
	{"hash", abi.MaskHash, true, `a key's name in double quotes or nothing is expected, as in hash("name") or hash`},
	{"tokenize", abi.MaskTokenize, true, `a key's name in double quotes or nothing is expected, as in tokenize("name") or tokenize`},
	{"bucket", abi.MaskBucket, false, `a width above 0 of at most 15 digits is expected, as in bucket(10) or bucket(0.5)`},
	{"trunc", abi.MaskTruncDate, false, `one of "year", "month", "day", "hour" is expected, as in trunc("month")`},
	{"custom", abi.MaskCustom, true, `the module's argument in double quotes or nothing is expected, as in custom("x") or custom`},
}

// ParseRule reads a mask as a task file writes it.
func ParseRule(text string) (Rule, error) {
	name, arg, args := strings.Cut(strings.TrimSpace(text), "(")
	name = strings.TrimSpace(name)
	i := slices.IndexFunc(words, func(w word) bool { return w.name == name })
	if i < 0 {
		var names []string
		for _, w := range words {
			if w.kind != abi.MaskCustom { // a guard's own: no task says it
				names = append(names, w.name)
			}
		}
		return Rule{}, fmt.Errorf("%q is no mask%s: one of %s is expected", text, meant(name, names), strings.Join(names, ", "))
	}
	w := words[i]
	fault := fmt.Errorf("%s: %s", text, w.wants)
	if !args {
		if !w.bare {
			return Rule{}, fault
		}
		return Rule{Kind: w.kind}, nil
	}
	arg, closed := strings.CutSuffix(arg, ")")
	if !closed {
		return Rule{}, fmt.Errorf("%s: it has no closing parenthesis; %s", text, w.wants)
	}
	arg = strings.TrimSpace(arg)
	r := Rule{Kind: w.kind, Arg: arg}
	switch w.name {
	case "null":
		return Rule{}, fault
	case "keep":
		first, last, two := strings.Cut(arg, ",")
		r.Arg = strings.TrimSpace(first) + "," + strings.TrimSpace(last)
		if _, _, ok := keepArg(r.Arg); !two || !ok {
			return Rule{}, fault
		}
		return r, nil
	case "bucket":
		if _, ok := widthArg(arg); !ok {
			return Rule{}, fault
		}
		return r, nil
	}
	if !strings.HasPrefix(arg, `"`) {
		return Rule{}, fault
	}
	said, err := strconv.Unquote(arg)
	if err != nil {
		return Rule{}, fault
	}
	r.Arg = said
	switch {
	case w.name == "keep_from":
		r.Arg = keepFrom + said
		if _, ok := fromArg(r.Arg); !ok {
			return Rule{}, fault
		}
	case w.name == "trunc" && !slices.Contains(units, said):
		return Rule{}, fmt.Errorf("%s: %s%s", text, w.wants, meant(said, units))
	case said == "" && w.kind != abi.MaskFixed:
		return Rule{}, fault
	}
	return r, nil
}

// String is the rule as a task file writes it.
func (r Rule) String() string {
	switch r.Kind {
	case abi.MaskPass:
		return "pass"
	case abi.MaskFixed:
		return "fixed(" + strconv.Quote(r.Arg) + ")"
	case abi.MaskKeep:
		if sep, ok := strings.CutPrefix(r.Arg, keepFrom); ok {
			return "keep_from(" + strconv.Quote(sep) + ")"
		}
		return "keep(" + strings.Replace(r.Arg, ",", ", ", 1) + ")"
	case abi.MaskHash:
		return named("hash", r.Arg)
	case abi.MaskTokenize:
		return named("tokenize", r.Arg)
	case abi.MaskBucket:
		return "bucket(" + r.Arg + ")"
	case abi.MaskTruncDate:
		return "trunc(" + strconv.Quote(r.Arg) + ")"
	case abi.MaskCustom:
		return named("custom", r.Arg)
	}
	return "null"
}

func named(mask, arg string) string {
	if arg == "" {
		return mask
	}
	return mask + "(" + strconv.Quote(arg) + ")"
}

// meant hints at the nearest word, where one is near.
func meant(said string, names []string) string {
	best := nearest.Word(said, slices.Values(names))
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// word is how a task file names a mask, without its argument.
func (r Rule) word() string {
	name, _, _ := strings.Cut(r.String(), "(")
	return name
}
