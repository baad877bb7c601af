package main

import (
	"strings"
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/sdk/guardtest"
)

// TestCards builds the guard and asks it in the gateway's own sandbox.
func TestCards(t *testing.T) {
	g := guardtest.Build(t, ".", map[string]any{"pass": []int{701}})
	guardtest.Laws(t, g, nil)
	for typ, want := range map[uint32]abi.MaskKind{25: abi.MaskCustom, 1043: abi.MaskCustom, 20: abi.MaskCustom, 23: abi.MaskPass, 701: abi.MaskPass, 114: abi.MaskNull, 1009: abi.MaskNull, 99999: abi.MaskNull} {
		if p := guardtest.Plan(t, g, abi.ResultColumn{Name: "c", Type: typ, Relation: []string{"public", "t"}, Column: "c"}); p.Kinds[0] != want {
			t.Errorf("type %d: %v, want %v", typ, p.Kinds[0], want)
		}
	}
	for text, want := range map[string]string{
		"":                                     "",
		"4111111111111111":                     "************1111",
		"paid with 4111 1111 1111 1111, twice": "paid with **** **** **** 1111, twice",
		"378282246310005":                      "***********0005",
		"4222222222222":                        "*********2222",
		"6011-0009-9013-9424/5500000000000004": "****-****-****-9424/************0004",
		"4111111111111112":                     "4111111111111112", // the check digit is wrong
		"order 4111  1111 1111 1111":           "order 4111  1111 1111 1111",
		"411111111111":                         "411111111111",
		"41111111111111114111111111111111":     "41111111111111114111111111111111", // no card has 32 digits
		"Ünïcode 4111111111111111 ✓":           "Ünïcode ************1111 ✓",
	} {
		for _, binary := range []bool{false, true} {
			if got := guardtest.Mask(t, g, abi.BatchColumn{Type: 25, Binary: binary}, []byte(text)); string(got[0]) != want {
				t.Errorf("%q became %q, not %q", text, got[0], want)
			}
		}
	}
	ints := abi.BatchColumn{Type: 20}
	if got := guardtest.Mask(t, g, ints, []byte("4111111111111111"), nil, []byte("42")); got[0] != nil || got[1] != nil || string(got[2]) != "42" {
		t.Errorf("%q", got)
	}
	ints.Binary = true
	card, other := []byte{0, 0x0e, 0x9b, 0x08, 0xa5, 0x68, 0xf1, 0xc7}, []byte{0, 0x0e, 0x9b, 0x08, 0xa5, 0x68, 0xf1, 0xc8}
	if got := guardtest.Mask(t, g, ints, card, other, []byte("odd")); got[0] != nil || string(got[1]) != string(other) || got[2] != nil {
		t.Errorf("%q", got)
	}
	rows := make([][]byte, 5000)
	for i := range rows {
		rows[i] = []byte(strings.Repeat("4111111111111111 and ", i%5))
	}
	for i, got := range guardtest.Mask(t, g, abi.BatchColumn{Type: 25}, rows...) {
		if want := strings.ReplaceAll(string(rows[i]), "411111111111", "************"); string(got) != want {
			t.Fatalf("row %d became %q", i, got)
		}
	}
}
