package mask

import "github.com/taskgate/taskgate/abi"

// Join gives what masks a column that two rules mask: NULL > FIXED > TOKENIZE
// > HASH, and of any other two that differ NULL.
func Join(a, b Rule) Rule {
	nulls := a.Nulls && b.Nulls
	a.Nulls, b.Nulls = nulls, nulls
	low, high := rank(a), rank(b)
	switch {
	case low == top || high == top:
	case a == b:
		return a
	case low > 0 && high > low:
		return b
	case high > 0 && low > high:
		return a
	}
	return Rule{Kind: abi.MaskNull}
}

// top is the rank of what shows nothing at all.
const top = 4

// rank orders the rules of which the stronger counts; others have none.
func rank(r Rule) int {
	switch r.Kind {
	case abi.MaskPass, abi.MaskKeep, abi.MaskBucket, abi.MaskTruncDate, abi.MaskCustom:
		return 0
	case abi.MaskHash:
		return 1
	case abi.MaskTokenize:
		return 2
	case abi.MaskFixed:
		return 3
	}
	return top // NULL, and what reads as it
}

// Pure says whether what stands in a cell's place tells whether two cells are
// equal: no other value may come beside them, and none be chosen.
func (r Rule) Pure() bool {
	return r.Kind == abi.MaskHash || r.Kind == abi.MaskTokenize || r.Kind == abi.MaskCustom
}
