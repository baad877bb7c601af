package schema

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestLooked(t *testing.T) {
	for source, want := range map[string]string{
		"begin insert into Work select 1; end":                                  "work",
		`select * from "My Work" w join b on true`:                              "My Work b",
		"select * from a as x, b y, public.c, d":                                "a b d",
		"select * from pg_temp.a, pg_temp . b":                                  "a b",
		"drop table if exists a, b; truncate c, d; create temp table e (i int)": "a b c d e",
		"create temporary table if not exists a as select 1":                    "a",
		"execute 'insert into ' || 'a' || ' values (1)'":                        "",
		"execute 'insert into a values (1)'":                                    "a",
		"select * from -- what\n a where true":                                  "a",
		"select * from /* what */ a":                                            "a",
		"select x, y, z from (a cross join b)":                                  "a b",
		"update a set v = 1; delete from only b; lock c; copy d from stdin":     "a b c d stdin",
		"from": "", "from.": "", "from pg_temp.": "", `from "`: "", "from a,": "a",
		"from " + strings.Repeat("x", 70): strings.Repeat("x", 63),
	} {
		names := map[string]bool{}
		looked(source, names)
		for _, w := range []string{"exists", "if", "not", "set", "select", "table", "temp", "temporary", "only", "values", "into"} {
			delete(names, w)
		}
		if got := strings.Join(slices.Sorted(maps.Keys(names)), " "); !strings.Contains(" "+got+" ", want) {
			t.Errorf("%s: %q, not %q", source, got, want)
		}
	}
}
