package abi

// Verdict is a module's answer. It is immutable once decoded.
type Verdict struct {
	Decision   Decision
	Reason     Reason
	Protect    []Protect
	Review     Requirement // read only where Decision is Review
	Terms      Terms
	Needs      []string // read only where Decision is Need
	ShowErrors bool     // the upstream's error and notice texts may pass
	Stdin      bool     // of a program: what the client sends may pass
	Limits     Limits
	CacheFor   uint32 // seconds; 0 leaves it to the host
	Cookie     []byte // at most 4 KiB, echoed later
	Tags       []string
	Risk       uint32
}

// Reason says why, to three readers.
type Reason struct {
	Code    string // stable, for programs: tasks.not-allowed
	Message string // one sentence for the engineer
	Closest string // which rule of which task came closest
	Hint    string // what is allowed, and how to ask for more
	Detail  string // for the audit log alone
	URL     string
}

// Protect names a source column and what protects it.
type Protect struct {
	Relation []string
	Column   string
	Kind     MaskKind
	Arg      string // of the mask, as SPEC.md has it
	Filter   bool   // may stand in `column = $1` at the top of a condition
	Unlisted bool   // not listed for reading in this task; the column "*" is whatever the relation has
	Nulls    bool   // the mask leaves NULL as it is, and so shows where it stands

	// Of the text that the command answers with, instead of a column: what the
	// groups of Pattern match in each line, all that it matches where it has none,
	// or the field of the lines that it matches.
	Pattern   string // RE2
	Field     uint32 // from 1; 0 is none
	Separator string // of fields; empty is blanks
}

// Text says whether it is about the text of an answer, not about a column.
func (p *Protect) Text() bool { return p.Pattern != "" || p.Field > 0 }

// MaskKind is a native mask. An unknown number reads as MaskNull.
type MaskKind uint8

// The masks of ABI version 1.
const (
	MaskUnset     MaskKind = 0 // reads as MaskNull
	MaskPass      MaskKind = 1
	MaskNull      MaskKind = 2
	MaskFixed     MaskKind = 3
	MaskKeep      MaskKind = 4
	MaskHash      MaskKind = 5
	MaskTokenize  MaskKind = 6
	MaskBucket    MaskKind = 7
	MaskTruncDate MaskKind = 8
	MaskCustom    MaskKind = 9
)

// Requirement is who has to approve, and for how long the approval holds.
type Requirement struct {
	Groups  []string
	People  uint32
	Within  uint32 // seconds
	Summary string
	Justify bool
}

// Terms are conditions on how a command runs. 0 is no condition.
type Terms struct {
	RowsReturned uint64
	RowsWritten  uint64
	OnHold       string // "refuse" (default) or "keep"
	Payload      string // "" or "unseen"
	Blind        bool
	Oracle       []string // "accept": what a constraint tells of a masked column; "refuse": also of one that is not listed
}

// Limits are the strictest that apply. 0 is none.
type Limits struct {
	Bytes            uint64
	StatementTimeout uint32 // milliseconds
}

// Tighten gives the stricter of two limits, where 0 is none.
func Tighten[T uint32 | uint64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// ResultColumn is one column of a result at hand.
type ResultColumn struct {
	Name     string
	Type     uint32   // the protocol's number of its type
	Relation []string // origin, empty where unknown
	Column   string
	Class    Class // of the type: what a mask can do with it; never sent to a module
}

// ResultSchema is what RESULT_SCHEMA is given.
type ResultSchema struct {
	Statement int // index of the statement in the command's text; never sent to a module
	Columns   []ResultColumn
}

// Class is what masks tell types apart by. A type that is in none has only
// MaskNull.
type Class uint8

// The classes of types of ABI version 1.
const (
	ClassOther Class = iota
	ClassText        // text, varchar, char, name, citext: bytes in UTF-8, the same in text and binary
	ClassInt2
	ClassInt4
	ClassInt8
	ClassNumeric
	ClassFloat4
	ClassFloat8
	ClassBool
	ClassDate
	ClassTimestamp
	ClassTimestampTZ
	ClassUUID
	ClassBytea
	ClassJSON
	ClassJSONB
	ClassEnum
)

// MaskPlan is what RESULT_SCHEMA answers: one entry a column, and Default for
// those whose origin is not known. The zero value masks everything.
type MaskPlan struct {
	Kinds   []MaskKind
	Args    []string
	Default MaskKind
}

// Clean is true of a plan that touches none of n columns.
func (p *MaskPlan) Clean(n int) bool {
	if len(p.Kinds) != n || p.Default != MaskPass {
		return false
	}
	for _, k := range p.Kinds {
		if k != MaskPass {
			return false
		}
	}
	return true
}

// Result is a run of an answer, as the protocol framed it. What it points to is
// valid until (*gate.Exchange).Result returns.
type Result struct {
	Schema *ResultSchema // set on the first run of a statement's result, else nil
	Frames []byte        // whole frames of the protocol
	Masked bool          // the text in them has been masked as it has to be
	Rows   int           // how many rows they carry
}

// Configure is what CONFIGURE is given.
type Configure struct {
	Config       []byte // JSON, checked against the manifest's schema
	Host         string // the host's version
	Capabilities []string
}
