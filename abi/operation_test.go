package abi

import "testing"

func TestOperationsAsPeopleSeeThem(t *testing.T) {
	for want, o := range map[string]Operation{
		`exec systemctl restart web-1`:                      {Verb: "exec", Kind: KindProgram, Object: []string{"systemctl", "restart", "web-1"}},
		`exec rm "a b" "" c`:                                {Verb: "exec", Kind: KindProgram, Object: []string{"rm", "a b", "", "c"}},
		`exec rm "\"a" "b\nc" "\u202ed" "\u200be" "\xff" é`: {Verb: "exec", Kind: KindProgram, Object: []string{"rm", `"a`, "b\nc", "\u202ed", "\u200be", "\xff", "é"}},
		`exec "ls; id"`:                                     {Verb: "exec", Kind: KindOpaque, Object: []string{"ls; id"}},
		`shell`:                                             {Verb: "shell", Kind: KindTerminal},
		`connect db 5432`:                                   {Verb: "connect", Kind: KindForward, Object: []string{"db", "5432"}},
		`setenv LANG = C`:                                   {Verb: "setenv", Kind: KindEnvironment, Object: []string{"LANG"}, Value: "C"},
		`select public.orders`:                              {Verb: "select", Kind: KindRelation, Object: []string{"public", "orders"}},
	} {
		if got := o.String(); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}
