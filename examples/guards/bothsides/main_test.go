package main

import (
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guardtest"
)

// TestBothSides builds the guard and asks it in the gateway's own sandbox.
func TestBothSides(t *testing.T) {
	g := guardtest.Build(t, ".", map[string]any{"tables": []string{"public.orders"}, "groups": []string{"dba", "owners"}, "within": 900})
	guardtest.Laws(t, g, nil)
	v := guardtest.Ask(t, g, guardtest.Command("look", guardtest.Relation("update", "public.orders", "status")))
	if v.Decision != abi.Review || v.Review.People != 2 || len(v.Review.Groups) != 2 || v.Review.Within != 900 {
		t.Errorf("%+v", v)
	}
	for _, o := range []abi.Operation{guardtest.Relation("select", "public.orders", "status"), guardtest.Relation("update", "public.items", "note")} {
		if v := guardtest.Ask(t, g, guardtest.Command("look", o)); v.Decision != abi.Abstain {
			t.Errorf("%s: %+v", o.String(), v)
		}
	}
	yes := func(subject string, groups ...string) abi.Voice {
		return abi.Voice{Issuer: "https://idp", Subject: subject, Groups: groups, Approve: true}
	}
	no := yes("eve", "owners")
	no.Approve = false
	for name, c := range map[string]struct {
		voices []abi.Voice
		want   abi.Decision
	}{
		"one of each":               {[]abi.Voice{yes("bob", "dba"), yes("eve", "owners")}, abi.Abstain},
		"the other way round":       {[]abi.Voice{yes("eve", "x", "owners"), yes("bob", "dba")}, abi.Abstain},
		"two of one":                {[]abi.Voice{yes("bob", "dba"), yes("carl", "dba")}, abi.Deny},
		"one who is both":           {[]abi.Voice{yes("bob", "dba", "owners")}, abi.Deny},
		"one who is both, twice":    {[]abi.Voice{yes("bob", "dba", "owners"), yes("bob", "dba", "owners")}, abi.Deny},
		"one who is both, and more": {[]abi.Voice{yes("bob", "dba", "owners"), yes("carl", "owners")}, abi.Abstain},
		"the other says no":         {[]abi.Voice{yes("bob", "dba"), no}, abi.Deny},
		"nobody":                    {nil, abi.Deny},
	} {
		if v := guardtest.Approval(t, g, c.voices...); v.Decision != c.want {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
