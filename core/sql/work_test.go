package sql_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql"
)

// TestWorkIsBounded: a short text that stands for billions of columns, or whose
// parts would be read over and over, is refused before it costs much.
func TestWorkIsBounded(t *testing.T) {
	nest := func(depth int, list, text string) string {
		for range depth {
			text = "select " + list + " from (" + text + ") x"
		}
		return text
	}
	recursive := "select 1"
	for i := range 30 {
		recursive = fmt.Sprintf("(with recursive r%d(a) as (%s union all select a from r%[1]d where a < 1) select a from r%[1]d)", i, recursive)
	}
	joins := "select 1 from pg_attribute a0"
	for i := range 900 {
		joins += fmt.Sprintf(" join pg_attribute b%d on true", i)
	}
	for name, text := range map[string]string{"stars": nest(6, strings.Repeat("x.*, ", 30)+"x.*", "select id from orders"), "TABLE": nest(40, "x.*, x.*", "table orders"),
		"recursive": recursive, "joins": joins, "values": nest(6, "*, "+strings.Repeat("x.*, ", 30)+"1", "values (1, 2)")} {
		start := time.Now()
		a, err := sql.Analyze(loaded(t), text)
		var e *sql.Error
		if !(errors.As(err, &e) && e.Code == "54011") && (a == nil || !strings.Contains(a.Statement.Incomplete, "too long")) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("%s took %v", name, d)
		}
	}
	whole, err := sql.Analyze(loaded(t), nest(60, "x as a, x as b", "select id from orders")) // a whole row of whole rows
	if err != nil || whole.Statement.Incomplete != "" {
		t.Error(whole, err)
	}
}

// TestLockThroughSubquery: FOR UPDATE locks what a subquery reads, whatever it
// shows of it.
func TestLockThroughSubquery(t *testing.T) {
	for _, text := range []string{"select 1 from (select 1 as a from customers) x for update", "select 1 from (select 1 as a from (select 2 as b from customers) y) x for share",
		"select x.id from (select o.id from orders o, customers c) x for update", "select 1 from (orders o join (select 1 as c from customers) k on true) j for update"} {
		a, err := sql.Analyze(loaded(t), text)
		if err != nil || a.Statement.Incomplete != "" {
			t.Fatal(text, a, err)
		}
		locked := false
		for _, o := range a.Statement.Operations {
			locked = locked || o.Object[1] == "customers" && o.Attrs&abi.RowLock != 0 && o.Effect == abi.EffectWrite
		}
		if !locked {
			t.Errorf("%s does not lock: %v", text, a.Statement.Operations)
		}
	}
}

// TestSetConfigCast: what set_config sets is what was judged, whatever a cast
// would make of it.
func TestSetConfigCast(t *testing.T) {
	c := *loaded(t)
	c.StatementTimeout = 30 * time.Second
	for text, floor := range map[string]bool{"select set_config('statement_timeout', '29999us'::text, 'f'::boolean)": true, "select set_config('search_path'::text, 'public', false)": true,
		"select set_config('statement_timeout', 4::numeric(3,-1)::text, false)": false, "select set_config('statement_timeout', '29999999us'::varchar(8), false)": false,
		"select set_config('statement_timeout', cast('29999999us' as varchar(8)), false)": false, "select set_config('statement_timeout', varchar(8) '29999999us', false)": false,
		`select set_config('statement_timeout', '2s'::"char"::text, false)`: false, "select set_config('statement_timeout', (-(4::numeric(3,-1)))::text, false)": false,
		"select set_config('search_path', 'public,pg_catalogx'::varchar(17), false)": false} {
		a, err := sql.Analyze(&c, text)
		if err != nil {
			t.Fatal(text, err)
		}
		ok := a.Statement.Incomplete == ""
		for _, o := range a.Statement.Operations {
			ok = ok && o.Attrs&abi.Floor != 0
		}
		if ok != floor {
			t.Errorf("%s: %v, %v", text, a.Statement.Operations, a.Statement.Incomplete)
		}
	}
}
