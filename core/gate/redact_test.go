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
	a, b := write(&abi.Statement{Text: "alter role app password 'a'"}), write(&abi.Statement{Text: "alter role app password 'b'"})
	if !bytes.Equal(a.sum[:], b.sum[:]) {
		t.Error("the digest lets the secret be guessed")
	}
}
