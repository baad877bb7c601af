package sql_test

import (
	"testing"

	"github.com/taskgate/taskgate/core/sql"
)

// TestPM34Digits holds that nobody has the server round a float before it is
// masked: where it rounds to tells of the value.
func TestPM34Digits(t *testing.T) {
	for _, v := range []string{"-15", "-1", "-0", "99", "1.5", ""} {
		if sql.Setting("extra_float_digits", v) {
			t.Errorf("extra_float_digits may be %q", v)
		}
	}
	for _, v := range []string{"0", "1", "2", "3"} {
		if !sql.Setting("Extra_Float_Digits", v) {
			t.Errorf("extra_float_digits may not be %q", v)
		}
	}
}

// TestPM13Plans holds that a text does not choose which index is read: rows that
// nothing sorts come in the order of its key, of which a column may be masked.
func TestPM13Plans(t *testing.T) {
	for _, name := range []string{"enable_seqscan", "enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_nestloop", "enable_sort", "random_page_cost", "cursor_tuple_fraction"} {
		if sql.Setting(name, "off") {
			t.Errorf("%s may be set", name)
		}
	}
}
