package sql_test

import (
	"testing"

	"github.com/taskgate/taskgate/abi"
	"github.com/taskgate/taskgate/core/sql/schema"
)

// TestPM35Classes asks the server for types of every kind, since only it knows
// what a domain or an enumeration is.
func TestPM35Classes(t *testing.T) {
	s := database(t, "classes", `
		create extension citext;
		create type mood as enum ('sad', 'ok');
		create type pair as (a int, b text);
		create domain short as varchar(10) check (value <> '');
		create domain shorter as short;
		create domain moods as mood;
		create domain many as text[];
		create type spans as range (subtype = date);
		create table holds (a text)`).Schema
	for name, want := range map[string]abi.Class{
		"text": abi.ClassText, "varchar": abi.ClassText, "bpchar": abi.ClassText, "name": abi.ClassText, "char": abi.ClassOther,
		"int2": abi.ClassInt2, "int4": abi.ClassInt4, "int8": abi.ClassInt8, "numeric": abi.ClassNumeric, "float4": abi.ClassFloat4, "float8": abi.ClassFloat8,
		"bool": abi.ClassBool, "date": abi.ClassDate, "timestamp": abi.ClassTimestamp, "timestamptz": abi.ClassTimestampTZ, "time": abi.ClassOther, "interval": abi.ClassOther,
		"uuid": abi.ClassUUID, "bytea": abi.ClassBytea, "json": abi.ClassJSON, "jsonb": abi.ClassJSONB, "xml": abi.ClassOther, "money": abi.ClassOther, "oid": abi.ClassOther,
		"_text": abi.ClassOther, "int4range": abi.ClassOther, "record": abi.ClassOther, "inet": abi.ClassOther,
	} {
		class(t, s, schema.Name{Namespace: "pg_catalog", Name: name}, want)
	}
	for name, want := range map[string]abi.Class{
		"mood": abi.ClassEnum, "moods": abi.ClassEnum, "short": abi.ClassText, "shorter": abi.ClassText, "citext": abi.ClassText,
		"pair": abi.ClassOther, "many": abi.ClassOther, "spans": abi.ClassOther, "holds": abi.ClassOther, "_mood": abi.ClassOther, "_citext": abi.ClassOther,
	} {
		class(t, s, schema.Name{Namespace: "public", Name: name}, want)
	}
	if got := s.Class(4_000_000_000); got != abi.ClassOther {
		t.Errorf("a type that is not there: %d", got)
	}
}

func class(t *testing.T, s *schema.Schema, name schema.Name, want abi.Class) {
	t.Helper()
	switch typ := s.TypeByName[name]; {
	case typ == nil:
		t.Errorf("the server has no type %v", name)
	case s.Class(typ.OID) != want:
		t.Errorf("%v: class %d, want %d", name, s.Class(typ.OID), want)
	}
}
