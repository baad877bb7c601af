package gate

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
)

// TestRC18Redact: no secret that shows itself as one is left, and what is no
// secret stays as it was.
func TestRC18Redact(t *testing.T) {
	for _, text := range []string{
		"ALTER ROLE app PASSWORD 'X9'", "alter user app with encrypted password 'X9' valid until '2030-01-01'", "create role r login password e'a\\'X9'",
		"alter role app password $$X9$$", "alter role app password $a$ X9 $a$", "alter role app password 'X9", "alter role app password 'a''X9'",
		"ALTER ROLE app PASSWORD/* 'x' */'X9'", "alter role app password -- 'x'\n 'X9'", "alter role app password 'abc'\n'X9'", "alter role app password 'a\\' X9'",
		"create user mapping for u server s options (user 'ada', password 'X9')", "create subscription s connection 'host=h password=X9' publication p",
		"select dblink('host=h password = X9 user=u', 'select 1')", "select dblink('postgresql://ada:X9@h/db', 'select 1')", "select set_config('app.password', 'X9', false)",
		"set app.password = 'X9'", "set app.password to X9", "set session app.secret = X9", "alter role ada set app.password to X9", "update users set password = 'X9' where id = 1",
		"select * from users where password in ('X8', 'X9')", "update users set \"Password\" = U&'X9'", "select '{\"password\": \"X9\"}'::jsonb", "select password => 'X9'",
		"\x00 password 'X9'", "password'X9'", "do $$ begin execute 'alter role x password=''X9'''; end $$", "select crypt_secret('X9')",
	} {
		clean, _ := redact(text)
		if strings.Contains(clean, "X9") || !strings.Contains(clean, redacted) {
			t.Errorf("%q became %q", text, clean)
		}
	}
	for _, text := range []string{
		"", "select 'a' from t where b = $1", "select password from users where name = 'ada'", "select password, 'ada' from users", "insert into notes values ('forgot my password', 'call')",
		"set password_encryption = 'scram-sha-256'", "select 'https://example.com/a:b@c'", "alter role app password null", "select 1 -- password 'x'", "select * from secret_santa where name = 'ada'",
	} {
		if clean, hidden := redact(text); clean != text || hidden != nil {
			t.Errorf("%q became %q %v", text, clean, hidden)
		}
	}
	if _, hidden := redact("update users set name = $1, password = $2 where token_secret = $13"); !slices.Equal(hidden, []int{2, 13}) {
		t.Error(hidden)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("alter role app password 'a")
	f.Add("password $$ /* \" '")
	f.Fuzz(func(t *testing.T, text string) {
		clean, _ := redact("alter role app password '" + strings.ReplaceAll(text, "'", "''") + "'")
		if clean != "alter role app password '"+redacted+"'" && !strings.Contains(text, `\`) {
			t.Fatalf("%q", clean)
		}
	})
}

// TestRC18Recorded: neither the log nor the recording has it, by any way.
func TestRC18Recorded(t *testing.T) {
	const secret = "hunter-two"
	g, out := newGate(t, &guard{name: "a", may: all, answer: func(c *abi.Command) (*abi.Verdict, error) {
		if strings.HasPrefix(c.Statement.Text, "alter") {
			return &abi.Verdict{Decision: abi.Deny, Reason: abi.Reason{Code: "x", Message: "not " + c.Statement.Text, Detail: c.Statement.Text, Hint: c.Statement.Text, Closest: c.Statement.Text}}, nil
		}
		return allow(c)
	}})
	s := open(t, g)
	for _, st := range []*abi.Statement{
		{Text: "alter role app password '" + secret + "'", Canonical: "ALTER ROLE app PASSWORD '" + secret + "'", Incomplete: "at password '" + secret + "'"},
		{Text: "set app.password = '" + secret + "'", Operations: []abi.Operation{{Verb: "set", Kind: abi.KindSetting, Object: []string{"app.password"}, Value: secret}}},
		{Text: "update users set password = $1 where id = $2"},
	} {
		for range 2 { // the second time by TrySubmit, where it can be
			c := &abi.Command{Phase: abi.Execute, Statement: st}
			if strings.Contains(st.Text, "$1") {
				c.Params = []abi.Param{{Value: []byte(secret)}, {Value: []byte("7")}}
			}
			ex, ok := s.TrySubmit(c)
			if !ok {
				ex, _ = s.Submit(t.Context(), c, nil)
			}
			if ex != nil {
				if err := ex.Done(t.Context(), Outcome{State: Completed}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]*Event{out.log, out.rec} {
		all := ""
		for _, e := range list {
			all += fmt.Sprintf("%+v\n", *e)
		}
		if strings.Contains(all, secret) {
			t.Errorf("it stands in %q", all[max(0, strings.Index(all, secret)-200):])
		}
		if !strings.Contains(all, "[[redacted] \"7\"]") || !strings.Contains(all, "alter role app password '[redacted]'") {
			t.Error("too much is gone:", all)
		}
	}
	a, b := write(&abi.Statement{Text: "alter role app password 'a'"}, false), write(&abi.Statement{Text: "alter role app password 'b'"}, false)
	if !bytes.Equal(a.sum[:], b.sum[:]) {
		t.Error("the digest lets the secret be guessed")
	}
}

// TestRC18Blank: of what is refused for the masked columns in it no value is
// written down, and it still reads as a text of its kind.
func TestRC18Blank(t *testing.T) {
	for text, want := range map[string]string{
		"select id from c where email = 'X9'":                                   "select id from c where email = '[redacted]'",
		"select 1 from c where a=E'a\\'X9' and \"b9\".c1=$1 and t2.x9 > 1.5e-9": "select 0 from c where a=E'[redacted]' and \"b9\".c1=$1 and t2.x9 > 0",
		"select $a$X9$a$, U&'X9' uescape '!', x'9f', 0x9F, .9, 9., 9_9":         "select '[redacted]', U&'[redacted]' uescape '[redacted]', x'[redacted]', 0, 0, 0, 0",
		"select a-9, a[9], numeric(9,9) -- 9 'x'":                               "select a-0, a[0], numeric(0,0) -- 9 'x'",
		"select 'X9": "select '[redacted]'", "": "", "9": "0",
	} {
		if got := blank(text); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	computed := abi.Statement{Protocol: "postgres", Text: "select id from c where ssn = 'needle' and id = 77", Canonical: "SELECT id FROM c WHERE ssn = 'needle' AND id = 77", Operations: []abi.Operation{read(abi.Column{Name: "ssn", Use: abi.UseCondition})}}
	mask := true
	g, out := newGate(t, &guard{name: "a", may: all, answer: func(*abi.Command) (*abi.Verdict, error) {
		v := &abi.Verdict{Decision: abi.Allow}
		if mask {
			v.Protect = ssn(abi.MaskNull, "")
		}
		return v, nil
	}})
	s := open(t, g)
	act := &abi.Command{Phase: abi.Execute, Statement: &computed, Params: []abi.Param{{Value: []byte("needle")}}}
	said := func() string { // but the session's own events, which have numbers of their own
		all := ""
		for _, e := range append(slices.Clone(out.log), out.rec...) {
			all += fmt.Sprintf("%s|%s|%s\n", e.Text, e.Canonical, e.Params)
		}
		return all
	}
	_, err := s.Submit(t.Context(), act, nil)
	if all := said(); err == nil || strings.Contains(all, "needle") || strings.Contains(all, "77") || !strings.Contains(all, "ssn = '[redacted]' and id = 0|SELECT") || !strings.Contains(all, "[[redacted]]") {
		t.Errorf("%v %s", err, all)
	}
	// Once it is allowed, what was run is known.
	mask = false
	if _, err := s.Submit(t.Context(), act, nil); err != nil || !strings.Contains(said(), "ssn = 'needle' and id = 77|SELECT") || !strings.Contains(said(), `["needle"]`) {
		t.Errorf("%v %s", err, said())
	}
}

// TestRC18Guesses: of what is allowed the values that are compared with what is
// masked are not written down, wherever they stand, and all others are. How many
// there were is.
func TestRC18Guesses(t *testing.T) {
	g, out := newGate(t, &guard{name: "a", may: all, answer: func(*abi.Command) (*abi.Verdict, error) {
		return &abi.Verdict{Decision: abi.Allow, Protect: found(abi.MaskNull, "")}, nil
	}})
	s := open(t, g)
	text := "select 'needle', 7, 33 from c where ssn in ('needle', 33, $2) and id = $1"
	at := func(v string, param int) abi.Guess {
		i := strings.LastIndex(text, v)
		return abi.Guess{From: i, To: i + len(v), Forwarded: "'" + strings.Trim(v, "'") + "'", Param: param}
	}
	looked := &abi.Statement{Protocol: "postgres", Text: text, Canonical: "select 'needle' , 7 , 33 from c where ssn = any ( array [ ('needle'::text), ('33'::text), ($2::text) ] ) and id = $1",
		Operations: []abi.Operation{read(compared(true))}, Guesses: 3, Guessed: []abi.Guess{at("'needle'", 0), at("33", 0), {Forwarded: "$2", Param: 2}}}
	executed := &abi.Statement{Protocol: "postgres", Text: "execute p('needle', 7)", Canonical: "execute p ( 'needle' , 7 )", Operations: []abi.Operation{read(compared(true))}, Guesses: 1}
	params := []abi.Param{{Value: []byte("nine")}, {Value: []byte("needle")}}
	for _, c := range []*abi.Command{{Phase: abi.Prepare, Statement: looked}, {Phase: abi.Execute, Statement: looked, Params: params}, {Phase: abi.Execute, Statement: executed, Params: params}} {
		ex, err := s.Submit(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := ex.Done(t.Context(), Outcome{State: Completed}); err != nil {
			t.Fatal(err)
		}
	}
	ex, ok := s.TrySubmit(&abi.Command{Phase: abi.Execute, Statement: looked, Params: params})
	if !ok {
		t.Fatal("it is judged anew")
	}
	if err := ex.Done(t.Context(), Outcome{State: Completed}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, e := range out.log {
		switch e.Kind {
		case EventText:
			said += fmt.Sprintln(e.Text, "|", e.Canonical)
		case EventCommand, EventClose:
			said += fmt.Sprintln(e.Name, e.Phase, e.Params, e.Guesses)
		}
	}
	const want = "select '[redacted]', 7, 33 from c where ssn in ('[redacted]', '[redacted]', $2) and id = $1 | select '[redacted]' , 7 , 33 from c where ssn = any ( array [ ('[redacted]'::text), ('[redacted]'::text), ($2::text) ] ) and id = $1\n" +
		"command prepare [] 0\ncommand execute [\"nine\" [redacted]] 3\nexecute p('[redacted]', 0) | execute p ( '[redacted]' , 0 )\ncommand execute [[redacted] [redacted]] 1\ncommand execute [\"nine\" [redacted]] 3\nclose  [] 7\n"
	if said != want {
		t.Errorf("\n%s, not\n%s", said, want)
	}
}
