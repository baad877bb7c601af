package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// odd makes conversations that no library has but that the protocol allows, or
// that are outside of it in a way that the server survives. The first letter of a
// word is the message's, what follows its text.
func odd(t *testing.T, words ...string) []step {
	t.Helper()
	var steps []step
	for _, w := range words {
		kind, rest := w[0], strings.TrimPrefix(w[1:], " ")
		name, text, _ := strings.Cut(rest, ":")
		var send []byte
		switch kind {
		case 'Q':
			send = query(rest)
		case 'P': // name:text
			send = parseMsg(name, text)
		case 'B': // portal:statement
			send = bindMsg(name, text)
		case 'E': // portal:limit
			var limit int32
			if text != "" {
				if _, err := fmt.Sscan(text, &limit); err != nil {
					t.Fatal(w, err)
				}
			}
			send = executeLimit(name, uint32(limit))
		case 'D', 'C': // P or S, and the name
			send = frame(kind, append([]byte(rest), 0))
		case 'd':
			send = frame('d', []byte(rest))
		case 'c', 'S', 'H', 'X':
			send = frame(kind, nil)
		case 'f':
			send = frame('f', []byte("enough\x00"))
		case 'x': // a statement run at once
			send = join(parseMsg("", rest), bindMsg("", ""), frame('D', []byte("P\x00")), executeMsg(""))
		case '!': // as it is
			send = []byte(w[1:])
		default:
			t.Fatal(w)
		}
		steps = append(steps, step{w, send})
	}
	return steps
}

const (
	good    = "d 60\tx\t1\n"
	another = "d 61\ty\t1\n"
	bad     = "d not a number\tx\t1\n"
	twice   = "d 1\ttwice\t1\n" // which shows when the data ends
)

// oddities are those conversations, by what they try.
var oddities = map[string][]string{
	"copy, flushed":                      {"Q copy t from stdin", good, "H", another, "H", "c", "Q select 1"},
	"copy, synced":                       {"Q copy t from stdin", "S", good, "S", another, "S", "c", "Q select 1"},
	"copy that fails":                    {"Q copy t from stdin", bad, good, "c", "Q select 1"},
	"copy that fails, synced":            {"Q copy t from stdin", bad, "S", "c", "Q select 1"},
	"copy that fails, synced often":      {"Q copy t from stdin", "S", bad, "S", "S", "H", good, "S", "c", "S", "Q select 1"},
	"copy that fails at its end, synced": {"Q copy t from stdin", twice, "S", "S", "c", "Q select 1"},
	"copy, given up":                     {"Q copy t from stdin", good, "S", "f", "S", "Q select 1"},
	"copy of nothing":                    {"Q copy t from stdin", "c", "Q copy t from stdin", "d ", "c"},
	"copy without an end":                {"Q copy t from stdin", bad, "Q select 1", "Q select 2"},
	"copy, then goodbye":                 {"Q copy t from stdin", good, "X"},
	"copy, then a query":                 {"Q copy t from stdin", good, "Q select 1"},
	"copy, then parse":                   {"Q copy t from stdin", good, "x select 1", "S"},
	"copy, then execute, failed before":  {"Q copy t from stdin", bad, "x select 1", "S"},
	"copy in pieces of lines":            {"Q copy t from stdin", "d 60", "d \tx", "S", "d \t1", "d \n61\ty\t2", "c"},
	"copy, binary":                       {"Q copy t from stdin binary", "d PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00", "d \x00\x03\x00\x00\x00\x04\x00\x00\x00\x63\x00\x00\x00\x01b\xff\xff\xff\xff", "d \xff\xff", "c"},
	"copy, binary, not so":               {"Q copy t from stdin binary", "d PGCOPX", "S", "c", "Q select 1"},
	"copy, csv":                          {"Q copy t from stdin csv header", "d id,v,n\n60,\"a\n", "H", "d b\",1\n", "c"},
	"copy, an end in the data":           {"Q copy t from stdin", good, "d \\.\n", another, "c", "Q select 1"},
	"copy among others":                  {"Q insert into t values (30, 'a', 1); copy t from stdin; select id from t where id > 9 order by id; copy u from stdin; select 2", good, "c", "d 1\t60\tw\n", "S", "c", "Q select 3"},
	"copy among others, the first fails": {"Q insert into t values (30, 'a', 1); copy t from stdin; select 1; copy u from stdin; select 2", bad, "c", "d 1\t60\tw\n", "c", "Q select 3"},
	"copy among others, synced":          {"Q copy t from stdin; select 1; copy u from stdin; select 2", bad, "S", "c", "d 1\t60\tw\n", "S", "c", "Q select 3"},
	"copy among others, the second":      {"Q copy t from stdin; copy u from stdin; select 2", good, "S", "c", "d x\n", "S", "c", "Q select 3"},
	"copy among others, given up":        {"Q copy t from stdin; copy u from stdin; select 2", good, "f", "d 1\t60\tw\n", "c", "Q select 3"},
	"copy in a transaction":              {"Q begin; copy t from stdin", good, "c", "Q select id from t where id > 9", "Q commit"},
	"copy in a transaction, failing":     {"Q begin", "Q copy t from stdin", bad, "S", "c", "Q select 1", "Q rollback", "Q select 1"},
	"copy that dangles":                  {"Q copy u from stdin", "d 1\t99\tw\n", "c", "Q begin", "Q copy u from stdin", "d 1\t99\tw\n", "c", "Q commit", "Q select 1"},
	"copied":                             {"Q select 1; copy t to stdout; select 2; copy (select id from t where id < 3 order by id) to stdout binary; select 3"},
	"copied until it fails":              {"Q copy (select 1/(4 - id) from t order by id) to stdout; select 1", "Q select 2"},
	"copied, then failed":                {"Q copy t to stdout; select 1/0; copy t to stdout", "Q select 2"},
	"copied, written":                    {"Q copy (update t set n = 5 where id < 3 returning id) to stdout", "d x", "c", "f", "Q select 1"},

	"bound copy":                             {"P :copy t from stdin", "B :", "D P", "E :", good, "c", "S", "Q select 1"},
	"bound copy, synced at once":             {"P :copy t from stdin", "B :", "E :", "S", good, "S", "c", "S", "Q select 1"},
	"bound copy, then more":                  {"x copy t from stdin", good, "c", "x select 2", "S", "Q select 1"},
	"bound copy that fails":                  {"x copy t from stdin", bad, "c", "x select 2", "S", "x select 3", "S"},
	"bound copy that fails, synced":          {"x copy t from stdin", bad, "S", "c", "S", "x select 3", "S"},
	"bound copy that fails, synced, more":    {"x copy t from stdin", bad, "S", good, "c", "x select 2", "S", "x select 3", "S"},
	"bound copy that fails, synced often":    {"x copy t from stdin", bad, "S", "S", "H", "S", "c", "x select 2", "H", "Q select 4", "S"},
	"bound copy that fails, no end":          {"x copy t from stdin", bad, "S", "x select 2", "S", "x select 3", "S"},
	"bound copy that fails, no end, no sync": {"x copy t from stdin", bad, "x select 2", "S", "x select 3", "S"},
	"bound copy that fails, a query":         {"x copy t from stdin", bad, "S", "Q select 2", "Q select 3"},
	"bound copy that fails, skipped query":   {"x copy t from stdin", bad, "Q select 2", "c", "S", "Q select 3"},
	"bound copy that fails at its end":       {"x copy t from stdin", twice, "S", "c", "x select 2", "S", "x select 3", "S"},
	"bound copy that fails at its end, name": {"x copy t from stdin", twice, "S", "c", "P s:select 2", "S", "P s:select 3", "B :s", "E :", "S"},
	"bound copy that fails, name":            {"x copy t from stdin", bad, "S", "c", "P s:select 2", "S", "P s:select 3", "S", "B :s", "E :", "S"},
	"bound copy, synced, name":               {"x copy t from stdin", good, "S", "c", "P s:select 2", "S", "P s:select 3", "S", "B :s", "E :", "S"},
	"bound copy, given up":                   {"x copy t from stdin", good, "S", "f", "x select 2", "S", "x select 3", "S"},
	"bound copy, then parse":                 {"x copy t from stdin", good, "P :select 1", "S"},
	"bound copy, then describe":              {"x copy t from stdin", good, "S", "D P", "S"},
	"bound copy in a transaction":            {"x begin", "x copy t from stdin", bad, "S", "c", "x select 1", "S", "x rollback", "x select 2", "S"},
	"bound copy, twice":                      {"P c:copy t from stdin", "B :c", "E :", good, "c", "B :c", "E :", another, "c", "S", "E :", "S"},
	"bound copied, in parts":                 {"P :copy t to stdout", "B p:", "E p:1", "E p:1", "S", "Q select 1"},
	"bound copied":                           {"x copy t to stdout", "x copy (select 1/(4 - id) from t order by id) to stdout", "x select 1", "S", "d x", "c", "Q select 1"},

	"data out of place":                        {"d x", "c", "f", "S", "x select 1", "d x", "f", "S", "c"},
	"a portal in parts":                        {"Q begin", "P s:select id, v from t order by id", "B p:s", "D P" + "p", "E p:2", "S", "E p:3", "S", "E p:-1", "E p:1", "E p:0", "S", "C Pp", "E p:1", "S", "Q rollback"},
	"a portal in parts, implicit":              {"P :select id from t order by id", "B p:", "E p:1", "H", "E p:1", "S", "E p:1", "S"},
	"a portal suspended, a query":              {"x begin", "P s:select id from t order by id", "B p:s", "B :s", "E p:1", "E :1", "S", "Q select 1", "E p:1", "S", "E :1", "S", "D Pp", "S", "Q rollback", "E p:1", "S"},
	"a portal suspended, unnamed":              {"x begin", "P s:select id from t order by id", "B :s", "E :1", "S", "Q select 1", "D P", "S"},
	"a portal suspended, failed":               {"x begin", "P s:select id from t order by id", "B p:s", "E p:1", "S", "Q select 1/0", "E p:1", "S", "C Pp", "S", "E p:1", "S", "Q rollback"},
	"a portal suspended, committed":            {"x begin", "P s:select id from t order by id", "B p:s", "E p:1", "x commit", "E p:1", "S", "E p:1", "S"},
	"a portal closed, suspended":               {"Q begin", "P s:select id from t order by id", "B p:s", "E p:1", "C Pp", "B p:s", "E p:2", "C Pp", "D Pp", "E p:1", "S", "Q rollback"},
	"a portal bound twice":                     {"P s:select 1", "B p:s", "B p:s", "E p:", "S", "B :s", "B :s", "E :", "S"},
	"a portal of a closed statement":           {"P s:select id from t order by id", "B p:s", "C Ss", "E p:1", "D Ss", "S", "P s:select 2", "B p:s", "E p:", "S"},
	"a portal of a statement made anew":        {"P :select id from t order by id", "B p:", "P :select 2", "E p:1", "B :", "E :", "S"},
	"a portal beyond a savepoint":              {"Q begin", "Q savepoint a", "P s:select id from t order by id", "B p:s", "E p:1", "S", "Q rollback to a", "E p:1", "S", "Q rollback"},
	"a portal of a write":                      {"P :insert into t values (30, 'a', 1), (31, 'b', 2) returning id", "B p:", "D Pp", "E p:1", "E p:1", "E p:1", "S"},
	"a portal of an update":                    {"P :update t set n = 1 where id < 3", "B p:", "D Pp", "E p:1", "E p:1", "S"},
	"a portal that has ended":                  {"Q begin", "P :select id from t where id < 3 order by id", "B p:", "E p:0", "E p:0", "E p:2", "S", "Q commit"},
	"a portal in other formats":                {"P s:select id, v, n from t order by id", "!" + string(bindValues("p", "s", nil, nil, []uint16{1, 0, 1})), "D Pp", "E p:1", "E p:2", "D Ss", "S"},
	"formats that are too few":                 {"P s:select id, v, n from t order by id", "!" + string(bindValues("p", "s", nil, nil, []uint16{1, 0})), "E p:1", "S", "Q select 1"},
	"a format that is none":                    {"P s:select id from t order by id", "!" + string(bindValues("p", "s", nil, nil, []uint16{7})), "E p:1", "S", "Q select 1"},
	"parameters that are too many":             {"P s:select id from t order by id", "!" + string(bindValues("p", "s", nil, []string{"1"}, nil)), "E p:1", "S", "Q select 1"},
	"a parameter that is no text":              {"P s:select $1::text", "!" + string(bindValues("p", "s", nil, []string{"a\xffb"}, nil)), "E p:1", "S", "!" + string(bindValues("p", "s", nil, []string{"a\x00b"}, nil)), "E p:1", "S", "Q select 1"},
	"a parameter of no type":                   {"P s:select $1", "D Ss", "S", "P :select $2::int", "D S", "S", "!" + string(parseTyped("", "select $1", 705)), "D S", "S", "!" + string(parseTyped("", "select $1, $2", 0, 23, 25)), "D S", "S"},
	"nothing":                                  {"Q ", "x ", "P :;", "B :", "D P", "D S", "E :1", "E :1", "S", "H", "S", "S"},
	"described, not there":                     {"D Pp", "D P", "S", "D Ss", "S", "D S", "S", "C Pp", "C Ss", "C S", "C P", "S"},
	"not there after all":                      {"Q begin", "Q select 1/0", "!" + string(join(parseMsg("", "select 1"), bindMsg("p", ""), sync_(), executeMsg("p"), sync_(), frame('D', []byte("Pp\x00")), sync_())), "Q rollback"},
	"made twice":                               {"P s:select 1", "P s:select 2", "S", "P s:select 3", "S", "B :s", "E :", "S", "P :select 4", "P :select 5", "B :", "E :", "S"},
	"failing, then skipped":                    {"P :select nothing from t", "B :", "D P", "E :", "C Ps", "H", "P s:select 1", "Q select 1", "S", "B :s", "S"},
	"flushed everywhere":                       {"P s:select id from t order by id", "H", "B p:s", "H", "D Pp", "H", "E p:1", "H", "E p:2", "H", "C Pp", "H", "S", "H"},
	"goodbye in the middle":                    {"Q select 1", "x insert into t values (30, 'a', 1)", "X", "S", "Q insert into t values (31, 'a', 1)"},
	"a query behind what is not synced":        {"x insert into t values (30, 'a', 1)", "Q select count(*) from t", "x insert into t values (1, 'a', 1)", "Q select 1", "S", "Q select count(*) from t"},
	"settings told":                            {"x set timezone = 'UTC'", "x select 1", "S", "Q set timezone = 'Asia/Tokyo'; select 1; set datestyle = 'German'", "x begin", "x set local timezone = 'Europe/Paris'", "x rollback", "S"},
	"notified":                                 {"x listen x", "S", "x notify x", "x select 1", "S", "Q notify x; select 1", "x begin", "x notify x, 'said'", "S", "x commit", "S"},
	"warned":                                   {"x begin", "x begin", "S", "x commit", "x commit", "S", "Q commit; begin; begin; select 1; commit"},
	"several, prepared":                        {"P :select 1; select 2", "S", "P :select 1;", "B :", "E :", "S", "P :;;", "B :", "E :", "S"},
	"a cursor, prepared before it is made":     {"P f:fetch 2 from c", "D Sf", "P m:move 1 in c", "S", "Q begin", "x declare c cursor for select id, v from t order by id", "B :f", "D P", "E :", "B :m", "D P", "E :", "B :f", "D P", "E :", "D Sf", "S", "Q close c", "x declare c cursor for select n from t order by id", "S", "B :f", "D P", "E :", "S", "Q commit"},
	"a statement, prepared before it is made":  {"P e:execute p(1)", "D Se", "P x:explain (costs off) execute p(1)", "S", "Q prepare p as select id, v from t where id = $1", "B :e", "D P", "E :", "B :x", "D P", "E :", "S", "Q deallocate p", "Q prepare p as insert into t values ($1 + 50, 'p', 1)", "B :e", "D P", "E :", "S"},
	"a cursor, prepared where nothing can run": {"Q begin", "Q select 1/0", "P f:fetch 2 from c", "S", "Q rollback"},
	"words at fault":                           {"Q select 1 frm t", "Q select 'a", "Q select \"a", "Q select $$a", "Q select 1 /* a", "Q select (1", "Q select 1)", "Q selct 'é'", "Q select 'a' 'b'", "Q select \"\"", "Q create table x (a int,)", "Q select U&'\\00' uescape 1", "Q select U&'\\00' uescape", "P :select ,", "S", "Q select 1; selct"},
	"places of errors":                         {"Q select nothing from t", "Q select id,\n  nofunc( id ) from t", "Q   select id from nowhere", "Q select 'é', \"nö\" from t", "Q select id from t where v = 1", "Q select id from t group by v", "x select nothing from t", "S", "Q insert into t (id, nothing) values (1, 2)", "Q select 'x'::int, id from t", "Q select id from t order by 7", "Q selct", "Q select 'a", "Q select 1 +", "Q update t set nothing = 1", "Q select t.id from t x", "Q select id from t, u", "Q select N'a', nothing from t"},
}

// TestTransparentOdd: what is odd is answered through the gateway as without it.
func TestTransparentOdd(t *testing.T) {
	w := makeTwins(t)
	w.g.hearing("x", &rules{allow: understood})
	n := 0
	for name, words := range oddities {
		steps := odd(t, words...)
		piece := []int{1 << 20, 1, 7}[n%3]
		if n++; n%2 == 1 { // every byte of the server's comes by itself
			w.g.Dialer = dribble{dialer{w.g.db}}
		} else {
			w.g.Dialer = dialer{w.g.db}
		}
		direct, through := w.run(t, steps, piece)
		if !slices.Equal(direct, through) && !own(direct, through) {
			t.Errorf("%s, in pieces of %d: %q\ndirect\n\t%s\nthrough\n\t%s", name, piece, words, strings.Join(direct, "\n\t"), strings.Join(through, "\n\t"))
		}
	}
}
