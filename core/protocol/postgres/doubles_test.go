package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// doubles are two databases behind the same task, equal but for what it protects: the
// values of people.ssn (masked) and people.secret (not listed), how long they are and
// whether there are any, and the rows of the schema hidden. What is sent to both is
// answered alike, byte for byte.
type doubles [2]*gateway

const doubledData = `SET ROLE owner; CREATE SCHEMA hidden;
	CREATE TABLE people (id int PRIMARY KEY, name text, ssn text UNIQUE, secret text, grp int DEFAULT 1);
	CREATE TABLE notes (id int PRIMARY KEY, person int REFERENCES people, body text, tag text UNIQUE);
	CREATE TABLE hidden.vault (id int PRIMARY KEY, note int REFERENCES notes ON DELETE CASCADE, what text);
	CREATE VIEW hidden.seen_people AS SELECT name, secret FROM people;
	CREATE VIEW names AS SELECT id, name FROM people;
	CREATE TABLE pets (id int PRIMARY KEY, name text, owner_ssn text);
	CREATE TABLE twice (id int PRIMARY KEY, v text, m text, n int, w text);
	INSERT INTO twice SELECT n, %[5]s || 'twice', %[5]s || 'masked', 1, %[5]s || n FROM generate_series(1, 4) n;
	INSERT INTO people VALUES (1, 'Ada', %[1]s), (2, 'Bob', %[2]s), (3, 'Cy', %[3]s);
	INSERT INTO notes VALUES (1, 1, 'one', 'a'), (2, 2, 'two', 'b'), (3, 3, 'three', 'c');
	CREATE TABLE plain (v text); INSERT INTO plain VALUES (%[5]s);
	INSERT INTO pets VALUES (1, 'Rex', 'zq');
	INSERT INTO hidden.vault SELECT n, 1 + n %% 3, 'what' || n || repeat('v', %[4]d) FROM generate_series(1, %[4]d) n;
	GRANT USAGE ON SCHEMA hidden TO app; GRANT ALL ON ALL TABLES IN SCHEMA public, hidden TO app; GRANT CREATE ON SCHEMA public TO app;`

func doubled(t *testing.T, task policy.Task, user string, probe bool) doubles {
	t.Helper()
	var w doubles
	for i, values := range [][]any{{"'zq-1-zq', 'zq1'", "'zq-2-zq', 'zq2'", "'zq-3-zq', NULL", 3, "'zq'"}, {"'xw-31-and-longer', 'xw9 longer'", "NULL, 'xw2'", "'xw-11', 'xw3'", 90, "repeat('xw', 40)"}} {
		guard := &judge{config: policy.Config{Tasks: map[string]*policy.Task{"x": &task}}}
		g := serve(t, guard)
		options, resource := TaskOptions{Introspect: true}, ResourceOptions{Probe: probe}
		for _, m := range task.Masks {
			options.Masked = append(options.Masked, abi.Source{Relation: m.Relation, Column: m.Column})
		}
		if task.Blind {
			options.Blind, options.Masked = Blind(task.Masks, func(r []string, c string) bool { return r[0] == "public" && c != "secret" }), nil
		}
		if user == "owner" {
			g.Dialer, resource.Privileged = asOwner{dialer{database: g.db}}, map[string]bool{"": true}
		}
		g.options(guard, options, resource, t.Name())
		g.askOf(t, g.db, fmt.Sprintf(doubledData, values...)+doubledTables)
		w[i] = g
	}
	return w
}

var ownIDs = regexp.MustCompile(`[0-9a-f]{16,}|session [^ )]*`)

// messages makes what lines say, a message each: Q and a text; P name text; B portal
// name|values; E portal rows; D and C with S or P and a name; d, c, S and H. A dash is
// an empty name, and X and a text are all messages of an unnamed statement.
func messages(t *testing.T, lines string) (b []byte, ready int) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		line = strings.TrimSpace(line)
		f := strings.SplitN(line, " ", 3)
		for i := range f {
			if i < 2 && f[i] == "-" {
				f[i] = ""
			}
		}
		for len(f) < 3 {
			f = append(f, "")
		}
		switch f[0] {
		case "Q":
			b, ready = append(b, query(strings.TrimPrefix(line, "Q "))...), ready+1
		case "P":
			b = append(b, parseMsg(f[1], f[2])...)
		case "B":
			g := strings.Split(f[2], "|")
			if g[0] == "-" {
				g[0] = ""
			}
			body := []byte(f[1] + "\x00" + g[0] + "\x00\x00\x00")
			body = binary.BigEndian.AppendUint16(body, uint16(len(g)-1))
			for _, v := range g[1:] {
				body = append(binary.BigEndian.AppendUint32(body, uint32(len(v))), v...)
			}
			b = append(b, frame('B', append(body, 0, 0))...)
		case "E":
			n, _ := strconv.Atoi(f[2])
			b = append(b, frame('E', binary.BigEndian.AppendUint32([]byte(f[1]+"\x00"), uint32(n)))...)
		case "X": // a whole one, unnamed
			b = append(b, join(parseMsg("", strings.TrimPrefix(line, "X ")), bindMsg("", ""), frame('D', []byte("P\x00")), executeMsg(""))...)
		case "D", "C":
			if f[2] == "-" {
				f[2] = ""
			}
			b = append(b, frame(f[0][0], []byte(f[1]+f[2]+"\x00"))...)
		case "d":
			b = append(b, frame('d', []byte(strings.ReplaceAll(strings.TrimPrefix(line, "d "), `\n`, "\n")+"\n"))...)
		case "c", "H":
			b = append(b, frame(f[0][0], nil)...)
		case "S":
			b, ready = append(b, sync_()...), ready+1
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return b, ready
}

// heardOf sends batches, divided by lines of three dashes, and gives what comes back.
func heardOf(t *testing.T, nc net.Conn, script string) string {
	t.Helper()
	var out strings.Builder
	for _, batch := range strings.Split(script, "---") {
		b, ready := messages(t, batch)
		if _, err := nc.Write(b); err != nil {
			fmt.Fprintln(&out, "ended")
			return out.String()
		}
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		for ready > 0 {
			kind, body, err := readMessage(nc)
			if err != nil {
				fmt.Fprintln(&out, "ended")
				return out.String()
			}
			switch kind {
			case 'Z':
				ready--
			case 'A': // without the process that it comes from
				body = body[4:]
			case 'T': // names, without OIDs
				n, rest := int(binary.BigEndian.Uint16(body)), body[2:]
				body = nil
				for range n {
					name, after, _ := bytes.Cut(rest, []byte{0})
					body, rest = append(append(body, name...), ' '), after[18:]
				}
			}
			fmt.Fprintf(&out, "%c %q\n", kind, ownIDs.ReplaceAllString(string(bytes.Map(func(r rune) rune {
				if r == 0 {
					return '~'
				}
				return r
			}, body)), "#"))
		}
	}
	return out.String()
}

func peopleRule() policy.Rule {
	return policy.Rule{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "ssn", "grp"}}
}

func doubledRules() []policy.Rule {
	return []policy.Rule{peopleRule(), all("select", "public.notes", "public.names", "public.plain"), all("insert", "public.notes"), all("update", "public.notes"), all("delete", "public.notes"),
		{At: "x.yaml:2", Verbs: []string{"select"}, Tables: []string{"public.twice"}, Columns: []string{"id", "m"}}, {At: "x.yaml:2", Verbs: []string{"select", "insert"}, Tables: []string{"public.pets"}, Columns: []string{"id", "name"}},
		{At: "x.yaml:2", Verbs: []string{"insert", "update"}, Tables: []string{"public.people"}, Columns: []string{"id", "name", "grp"}}, {At: "x.yaml:2", Verbs: []string{"insert", "update"}, Tables: []string{"public.twice"}, Columns: []string{"id", "n"}},
		{At: "x.yaml:2", Verbs: []string{"select", "insert", "update"}, Tables: []string{"public.gen"}, Columns: []string{"id", "a", "g", "name"}},
		{At: "x.yaml:2", Verbs: []string{"select", "insert", "update", "delete"}, Tables: []string{"public.strict"}, Columns: []string{"id", "a"}}, all("delete", "public.gen"),
		{At: "x.yaml:2", Verbs: []string{"listen", "notify"}, Channels: []string{"news"}},
		ddl("pg_temp.*", append(upkeepVerbs, tableVerbs...)...)}
}

const doubledTables = `CREATE TABLE gen (id int PRIMARY KEY, a int, secret text, ssn text, g text GENERATED ALWAYS AS (ssn || 'x') STORED, name text);
	INSERT INTO gen (id, a, secret, ssn, name) SELECT id, id, secret, ssn, name FROM people;
	CREATE DOMAIN short AS text CHECK (length(VALUE) < 60);
	CREATE TABLE strict (id int PRIMARY KEY, a int NOT NULL, secret short, ssn text, CHECK (a < 1000), CHECK (length(secret) > a - 100), UNIQUE (a, secret));
	INSERT INTO strict SELECT id, id, secret, ssn FROM people; GRANT ALL ON gen, strict TO app;`

// alike runs each script, a session each, at both, and wants so many of the answers to
// be no refusals: a script that is refused from its beginning shows nothing.
func (w doubles) alike(t *testing.T, scripts []string, least int) {
	t.Helper()
	run := func(script string) (out [2]string) {
		for i, g := range w {
			nc := g.in(t)
			out[i] = heardOf(t, nc, script)
			nc.Close()
		}
		return out
	}
	if out := run("Q select v from plain"); out[0] == out[1] || !strings.Contains(out[0], "zq") {
		t.Fatalf("what is listed is not shown: %s", out[0])
	}
	done := 0
	for _, script := range scripts {
		out := run(script)
		if out[0] != out[1] {
			t.Errorf("%s\n%s\nis not\n%s", script, out[0], out[1])
		} else if strings.Contains(out[0], "zq") && !strings.Contains(script, "zq") || strings.Contains(out[0], "ended") {
			t.Errorf("%s\n%s", script, out[0])
		}
		done += strings.Count("\n"+out[0], "\nC ")
	}
	if done < least {
		t.Errorf("%d commands were carried out, want %d: the others were refused, and say nothing", done, least)
	}
}

func doubledMasks() []abi.Protect {
	return append(masks(abi.MaskNull, "", "people.ssn", "gen.ssn", "strict.ssn"), masks(abi.MaskNull, "", "twice.m")...)
}
