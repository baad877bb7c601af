// Package sql understands PostgreSQL text: Analyze turns it into the
// operations it would carry out, the lineage of what it returns and the
// canonical text that is forwarded in its place. What it does not understand
// it says, and then nothing runs.
package sql

import (
	"fmt"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/parse"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// Context is what the meaning of a text depends on beside the text. The
// session's protocol keeps it; Analyze only reads it.
type Context struct {
	Schema     *schema.Schema
	Grammar    *parse.Grammar
	SearchPath []string               // as it would stand when the text runs; nil is the login's own
	Login      []string               // the path that the session began with; nil is the login's own
	Anywhere   bool                   // the path may be another one: a function or operator can be any schema's
	Made       map[schema.OID]bool    // relations that the open transaction has made
	Introspect bool                   // the task may read the system catalogs' names
	Extensions []string               // whose types and immutable functions any text may use, as the server's own
	Settings   func(name string) bool // further settings that the task may change; nil has none
	Blind      *Blind                 // what a task that is blind sees of relations; nil sees them as they are
	Filter     *Filter                // masked columns that may be compared with values; nil has none
	Listed     *Listing               // what a task with introspection is told of; nil is all

	Definitions *Definitions // what a task with introspection is told of how things are made; nil is nothing

	StatementTimeout time.Duration // the task's limit, 0 where it has none
}

// Analysis is what Analyze found out about one text. It is immutable.
type Analysis struct {
	Statement *abi.Statement // operations and outputs of all parts, and the canonical text
	Parts     []Part         // one for each statement of the text, none for an empty one
	Params    int            // highest $n
	Beneath   bool           // it reaches relations that a task which sees what it lists is not told of

	Pieces []Piece // the statements of a text that has several
	Apart  bool    // it changes tables among others, and so is incomplete: what one means is known once those before have run
}

// Piece is one statement of a text.
type Piece struct {
	Text   string
	Offset int // in bytes
}

// Part is what a protocol has to know of one statement to keep its own state.
type Part struct {
	Kind      Kind
	Canonical string // of this statement alone, without a semicolon
	Writes    bool   // anything in it is not proven to read
	Unsaid    bool   // it may call functions of users that no operation names
	Nested    bool   // a WITH in it changes rows, which its tag does not count
	Rows      bool   // it answers with rows
	Name      string // of the savepoint, setting, prepared statement or cursor
	Current   string // the cursor whose row a Write changes, by WHERE CURRENT OF; else it is empty
	Value     string // what a setting is set to
	Local     bool   // SET LOCAL
	All       bool   // DEALLOCATE, CLOSE, RESET, DISCARD ALL
	Hold      bool   // DECLARE WITH HOLD
	Notice    string // what the client is told when it is done
	Explain   Explain
	Copy      CopyFormat // of CopyIn and CopyOut

	// Plain says that all functions, operators and casts in it are the server's
	// own and on the committed list: the gateway itself may plan it, and run Count.
	Plain bool
	// Count counts the rows that an UPDATE or DELETE of one table would change,
	// with the same parameters, of which it may name some alone; else it is empty.
	Count string

	// Body is the query or change that it is, or has within EXPLAIN or COPY, as it is
	// forwarded; else it is empty.
	Body string

	Makes     []schema.Name // relations that a Define makes, or would
	Cascades  bool          // a Define or TRUNCATE that takes along what depends on what it names, as far as that is known
	Temporary bool          // a Define of nothing but the session's own temporary relations
	Path      []string      // what the search path is set to; nil is what the session began with
	Args      []abi.Param   // of EXECUTE
	Inner     *Analysis     // what PREPARE and DECLARE give a name to, as a text of its own
}

// Kind is what a protocol distinguishes. The zero value is refused.
type Kind uint8

// The kinds of statements.
const (
	Unknown Kind = iota
	Query        // SELECT, VALUES, TABLE
	Write        // INSERT, UPDATE, DELETE, TRUNCATE
	Begin
	Commit
	Rollback
	Savepoint
	Release
	RollbackTo
	CommitChain // COMMIT or ROLLBACK AND CHAIN
	TwoPhase    // PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED
	Set
	Reset
	Show
	CopyIn
	CopyOut
	ExplainPlan    // without ANALYZE
	ExplainAnalyze // runs
	Utility        // everything else that the grammar knows
	SetPath        // SET and RESET search_path
	Prepare        // gives Name to Inner
	Execute        // does what Name stands for
	Deallocate
	Declare // gives the cursor Name to Inner
	Fetch   // FETCH and MOVE
	CloseCursor
	Discard
	Define // changes the database's own catalog
)

// Explain says whether EXECUTE runs, or is only planned, or runs and tells how.
type Explain uint8

// The ways of EXPLAIN EXECUTE.
const (
	Runs Explain = iota
	Planned
	Analyzed
)

// Error is an answer in PostgreSQL's own words: what is outside the grammar,
// or names what does not exist.
type Error struct {
	Code    string // SQLSTATE: 42601, 42P01, 42703, 42883, 54001, 0A000 …
	Message string
	Near    string // the word at fault, which only the client is told
	Hint    string
	Offset  int // bytes into the text, -1 where none
}

func (e *Error) Error() string { return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code) }
