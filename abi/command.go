package abi

// Phase says what the client asks for. Everything but Execute and Prepare is
// refused.
type Phase uint8

// The phases of ABI version 1.
const (
	Prepare Phase = 1 // make a statement ready: may be refused, nobody is asked
	Execute Phase = 2 // do it
)

// Effect says whether an operation changes anything. Unknown reads as a write.
type Effect uint8

// The effects of ABI version 1.
const (
	EffectUnknown Effect = 0
	EffectRead    Effect = 1
	EffectWrite   Effect = 2
)

// Writes is true of everything that is not proven to read.
func (e Effect) Writes() bool { return e != EffectRead }

// Kinds of objects, by Operation.Kind. A module meets further ones and must
// refuse those that it does not know.
const (
	KindRelation    = "relation"    // schema, name
	KindFunction    = "function"    // schema, name
	KindSetting     = "setting"     // name; Value is what it is set to
	KindTransaction = "transaction" // begin, commit, rollback, savepoint …
	KindStatement   = "statement"   // a statement without an object: its PostgreSQL word
	KindChannel     = "channel"     // LISTEN, NOTIFY
	KindSystem      = "system"      // introspection of the system catalogs

	// Of what changes the database's own catalog, since 1.2. Tables, views and
	// sequences are relations, and an index is its table's.
	KindSchema  = "schema"  // name
	KindType    = "type"    // schema, name: an enumeration or a domain
	KindRoutine = "routine" // schema, name: a function or procedure that is made or dropped

	// Of hosts, since 1.1.
	KindProgram     = "program"     // the words of a command; verbs exec, subsystem
	KindTerminal    = "terminal"    // an interactive shell, its words if it has any; verb shell
	KindOpaque      = "opaque"      // a text that is given to a shell as it is; verb exec; the statement is incomplete
	KindFile        = "file"        // an absolute path, cleaned; verbs stat, list, read, write, remove, rename, mkdir, setstat, link, persist
	KindForward     = "forward"     // host and port, or the path of a socket; verbs connect, bind
	KindEnvironment = "environment" // name; Value is what it is set to; verb setenv
	KindSignal      = "signal"      // name without SIG; verb signal
	KindAgent       = "agent"       // the client's key agent; verb forward
	KindX11         = "x11"         // the client's display; verb forward
)

// Attr are facts about an operation, by bit. A bit that is not set means "not
// known to be so".
type Attr uint64

// The attributes of ABI version 1.
const (
	HasWhere  Attr = 1 << iota // a condition that is not a tautology
	WhereKey                   // equality on all columns of a unique key, and so at most one row
	HasLimit                   // LIMIT or FETCH FIRST with a constant
	RowLock                    // FOR UPDATE and its like
	Returning                  // RETURNING
	CopyOut                    // COPY … TO STDOUT
	CopyIn                     // COPY … FROM STDIN
	Dynamic                    // runs text that is not known when it is judged
	Explain                    // EXPLAIN without ANALYZE: does not run
	Floor                      // part of the floor that every task has
	Own                        // on what the open transaction has made itself, with all that shares its rows
	Blind                      // the text sees the object's columns through the task's masks, and no others
)

// Use says how a column is used, by bit.
type Use uint32

// The uses of ABI version 1.
const (
	UseCopied    Use = 1 << iota // copied to an output
	UseComputed                  // computed into an output
	UseCondition                 // WHERE, ON, HAVING, LIMIT and the like
	UseOrder                     // ORDER BY
	UseGroup                     // GROUP BY, DISTINCT, set operations that compare
	UseWritten                   // assigned
	UseTested                    // tested by a constraint, index or trigger
)

// Reads are the uses by which a value can be learned from what comes back.
const Reads = UseCopied | UseComputed | UseCondition | UseOrder | UseGroup

// Column is one column of an operation's object.
type Column struct {
	Name   string
	Use    Use
	Symbol uint32 // the host's id of Name, 0 where no guard asked for it
	Filter bool   // as a condition it is compared with constants and parameters alone, by the equality of its type; never sent to a module
}

// Operation is one thing that a command does. What stands behind a view, a
// parent or a trigger carries Via.
type Operation struct {
	Statement int      // index of the statement in the command's text
	Verb      string   // select, insert, update, delete, merge, truncate, call, set, begin …
	Kind      string   // of the object: Kind…
	Object    []string // its name's parts
	Columns   []Column
	Via       string // "view public.v", "fk public.items.items_order_id_fkey", "trigger public.t.audit", …
	Effect    Effect
	Attrs     Attr
	Value     string // of a setting; else empty
	Symbol    uint32 // the host's id of Object, its parts joined by NUL
}

// Source is one column that an output depends on.
type Source struct {
	Relation []string
	Column   string
	View     bool // the relation is a view, and what it shows is listed beside it
	Blind    bool // the text itself shows it masked, as Statement.Blind has it, if at all; never sent to a module
}

// Output is the lineage of one column of a result.
type Output struct {
	Statement int
	Index     int
	Name      string
	Copies    []Source // bare copies
	Computed  []Source // everything else that it is computed from
	Other     bool     // constants, parameters or expressions feed it too; NULL alone does not count
	Type      uint32   // the protocol's number of its type where it is a bare copy, else 0; never sent to a module
}

// Statement is what a text does, as its protocol's parser understood it. It is
// immutable once made, and shared by every command that sends the same text in
// the same context.
type Statement struct {
	Protocol    string // "postgres", "ssh"
	Text        string // as sent
	Canonical   string // as forwarded; never sent to a module
	Fingerprint string // groups texts in reports; never decides
	Operations  []Operation
	Outputs     []Output
	Incomplete  string // what could not be understood, else empty

	// Kin are, by the name of a relation (its parts joined by dots), those that
	// share its columns by inheritance or partitioning: what protects a column of
	// one protects it in all. Never sent to a module.
	Kin map[string][][]string

	// Blind are the masks that stand in the canonical text: operations with the
	// attribute Blind see these columns through them. Never sent to a module.
	Blind []Protect

	// Guesses is with how many constants and parameters columns are compared that a
	// task may filter by, and Guessed where these stand: nowhere is anywhere. Never
	// sent to a module.
	Guesses int
	Guessed []Guess
}

// Guess is a value that is compared with what is masked: it is not written down.
type Guess struct {
	From, To  int    // of its bytes in Statement.Text
	Forwarded string // how it stands in Statement.Canonical
	Param     int    // or the number of the parameter that it is
}

// Writes is true unless every operation is proven to read.
func (s *Statement) Writes() bool {
	for i := range s.Operations {
		if s.Operations[i].Effect.Writes() {
			return true
		}
	}
	return s.Incomplete != ""
}

// Param is one bound parameter.
type Param struct {
	Type   uint32 // the protocol's number of its type, 0 where unknown
	Binary bool
	Null   bool
	Value  []byte
}

// Input describes a stream that belongs to a command. The zero value is none.
type Input struct {
	Kind   InputKind
	Size   uint64 // of what was spooled, in bytes
	Digest []byte // SHA-256 of what was spooled
	Head   []byte // its first bytes
}

// InputKind tells a stream that is spooled from one that is not.
type InputKind uint8

// The kinds of input of ABI version 1.
const (
	InputNone    InputKind = 0
	InputStream  InputKind = 1
	InputSpooled InputKind = 2
)

// Session is who asks, for which task, on which resource.
type Session struct {
	ID       string
	Issuer   string
	Subject  string
	Groups   []string
	Task     string
	Resource string
	Login    string // which of the resource's logins
	Address  string // the client's, host:port
	Protocol string
}

// Command is one thing that a client asks.
type Command struct {
	Phase     Phase
	Time      int64 // Unix time in ns
	Session   *Session
	Statement *Statement
	Params    []Param
	Input     Input

	// Open says that a transaction is open in which it runs, so that nothing
	// of it lasts before that commits. Never sent to a module.
	Open bool
	// Bound is what its meaning depends on beside what is here, as the protocol
	// has it: role, search path. An approval holds for it alone. Never sent to a
	// module.
	Bound string
	// Held is called where the command has to be approved, before anybody is
	// asked: an error refuses it instead. It may set Open. It may be nil. Never
	// sent to a module.
	Held func(*Verdict) error
	// Rows tells, for who has to approve, how many rows it would touch. It may be
	// nil. Never sent to a module.
	Rows func() Rows
}

// Rows is how many rows a command would change, asked beforehand. -1 is not
// known.
type Rows struct {
	Estimated int64 // by the planner
	Counted   int64 // by reading, at that moment
}
