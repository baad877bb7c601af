package sqlgen

import (
	"fmt"
	"slices"
	"strings"
)

// column is one of a table's. mask is what a task shows it through, "" for one
// that it shows as it is. One that it does not list has "-", and one that is
// made of what is masked, and so cannot be read, "=". A ^ before a mask says
// that it is another table's, by inheritance or partitions.
type column struct {
	name, kind, mask string
	generated        bool
}

func (c column) protected() bool { return c.mask != "" }

// closed says that no statement may read it.
func (c column) closed() bool { return c.mask == "-" || c.mask == "=" }

type table struct {
	name    string
	columns []column
	view    bool   // its masks are those of what stands beneath
	rare    bool   // little of what is done with it may be
	probes  bool   // probes alone name it
	since   int    // the first server that has it
	writes  string // which of insert, update, delete and truncate are listed
	effects string
}

// protects says whether anything of a table is protected.
func (t *table) protects() bool { return slices.ContainsFunc(t.columns, column.protected) }

// columns reads "name kind mask" lines.
func columns(text string) (list []column) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		c := column{name: strings.TrimSuffix(f[0], "!"), kind: f[1], mask: strings.Join(f[2:], " ")}
		c.generated = c.name != f[0]
		list = append(list, c)
	}
	return list
}

// tables are what a task lists of the schema.
var tables = []table{
	{name: "people", writes: "insert update delete", effects: "public.log, public.hidden, public.people, trigger public.people.tell, trigger public.people.note_it", columns: columns(`
		id int
		name text
		grp int
		mood mood
		nick text
		age int
		joined date
		amount numeric
		tags text[]
		name_len! int
		ssn text null
		email text fixed("hidden")
		card text keep(2, 4)
		pay int bucket(100)
		born date trunc("month")
		seen timestamptz trunc("hour")
		score numeric bucket(10)
		raw bytea null
		uid uuid fixed("00000000-0000-0000-0000-000000000000")
		doc jsonb null
		upper_ssn! text -
		note text -
		extra int -`)},
	{name: "grp", writes: "insert update delete truncate", effects: "public.people, trigger public.people.tell", columns: columns("id int\ntitle text\nrank int")},
	{name: "keyed", columns: columns("id int\ngrp int\nlabel text\nhs text hash\ntok text tokenize")},
	{name: "log", writes: "insert update delete truncate", effects: "trigger public.log.late", columns: columns("id! int\nperson int\nbody text\nat int")},
	{name: "guarded", writes: "insert update delete truncate", columns: columns("id int\nlabel text\nplain int\ncode text null\npin int fixed(\"7\")\nref int null\nspan int4range null\ndom text null")},
	{name: "sales", writes: "insert update delete truncate", columns: columns("id int\nregion text\namount int\nsecret text fixed(\"none\")\ntag text ^null\nmargin int -")},
	{name: "sales_eu", writes: "update", columns: columns("id int\nregion text\namount int\nsecret text ^fixed(\"none\")\ntag text ^null\nmargin int -")},
	{name: "sales_us", columns: columns("id int\nregion text\namount int\nsecret text ^fixed(\"none\")\ntag text null\nmargin int -")},
	{name: "base", writes: "insert update delete truncate", columns: columns("id int\nlabel text\ncode text keep(2, 4)\nspare text -")},
	{name: "derived", writes: "insert update", columns: columns("id int\nlabel text\ncode text ^keep(2, 4)\nmore int\nspare text -")},
	{name: "ledger", writes: "insert update delete truncate", columns: columns("id int\nn int\nlabel text\nsecret text null")},
	{name: "docs", writes: "insert update delete truncate", columns: columns("id int\nowner text\nlevel int\nbody text null")},
	{name: "v_vault", view: true, columns: columns("id int\nv text null")},
	{name: "v_people", view: true, writes: "update", effects: "public.people, trigger public.people.tell", columns: columns("id int\nname text\ntax text null\nnumber text keep(2, 4)")},
	{name: "v_adults", view: true, columns: columns("id int\nname text\nage int\nemail text fixed")},
	{name: "v_some", view: true, writes: "update insert", effects: "public.people, trigger public.people.tell", columns: columns("id int\nname text\ngrp int\nssn text null")},
	{name: "v_groups", view: true, columns: columns("id int\ntitle text\nn bigint\noldest int")},
	{name: "v_both", view: true, columns: columns("id int\nlabel text\ncode text null")},
	{name: "m_people", view: true, columns: columns("id int\nname text\ns text null\npay int bucket(100)")},
	{name: "made", rare: true, writes: "insert update", columns: columns("id int\nlabel text\nlevel int\nplace int\nk text null\nj text null\narr text[] null\nbig_j! text null\nupper_k! text =\nspare text -")},
	{name: "papers", rare: true, columns: columns("id int =\nlabel text =\nsecret text null")},
	{name: "spot", rare: true, writes: "insert update delete truncate", effects: "trigger public.spot.later", columns: columns("id int\nlabel text")},
	{name: "pinned", rare: true, writes: "truncate", columns: columns("id int\nspot int null")},
	{name: "perch", rare: true, writes: "insert update delete truncate", effects: "public.perched", columns: columns("id int\nlabel text")},
	{name: "perched", rare: true, writes: "truncate", columns: columns("id int\nperch int null")},
	{name: "v_rich", view: true, rare: true, columns: columns("id int =\nname text =")},
	{name: "v_made", view: true, rare: true, columns: columns("id int\nname text\nage int\nbig text =")},
	{name: "v_multi", view: true, rare: true, columns: columns("id int =\nname text =\nn int =")},
	{name: "v_joined", view: true, rare: true, columns: columns("id int =\nlabel text =")},
	{name: "v_guarded", view: true, writes: "insert update", columns: columns("id int\nlabel text\ncode text null")},
	{name: "stays", since: 18, writes: "insert update delete", columns: columns("id int4range\nduring daterange\nroom text\nguest text null")},
	{name: "slots", probes: true, writes: "insert update", effects: "trigger public.slots.ring", columns: columns("id int\nlabel text\ncode text null\npay int bucket(100)")},
	{name: "v_slots", view: true, probes: true, columns: columns("id int\nlabel text\ncode text null\npay int bucket(100)")},
	{name: "v_keyed", view: true, probes: true, writes: "insert update", effects: "public.keyed", columns: columns("id int\nlabel text\ntag text hash")},
	{name: "v_turned", view: true, probes: true, writes: "insert update", effects: "trigger public.v_turned.turned", columns: columns("id int\nlabel text\ntag text hash")},
	{name: "v_instead", view: true, writes: "insert update", effects: "trigger public.v_instead.instead", columns: columns("id int\nlabel text")},
}

// Task gives a task file over the schema on a server of that major. more are
// further lines of it. Where it is blind, no mask needs a key.
func Task(name, resources, more string, major int, blind bool) string {
	var b, masks strings.Builder
	if blind {
		more += "\nblind: true"
	}
	fmt.Fprintf(&b, "task: %s\nresources: [%s]\n%s\nallow:\n", name, resources, more)
	for _, t := range tables {
		if t.since > major {
			continue
		}
		var read, write []string
		for _, c := range t.columns {
			if c.mask == "-" {
				continue
			}
			read = append(read, c.name)
			if !c.generated {
				write = append(write, c.name)
			}
			if !c.protected() || t.view || c.mask == "=" || c.mask[0] == '^' {
				continue
			}
			mask := c.mask
			if blind && (mask == "hash" || mask == "tokenize") {
				mask = "null"
			}
			fmt.Fprintf(&masks, "  - {column: public.%s.%s, with: '%s'}\n", t.name, c.name, mask)
		}
		list := "[" + strings.Join(read, ", ") + "]"
		if !t.view && (!t.protects() || t.probes) { // so that a task that shows errors may write it
			list = "all"
		}
		fmt.Fprintf(&b, "  - {verbs: [select], tables: [public.%s], columns: %s}\n", t.name, list)
		effects := ""
		if t.effects != "" {
			effects = ", effects: [" + t.effects + "]"
		}
		for verb := range strings.FieldsSeq(t.writes) {
			switch verb {
			case "delete":
				fmt.Fprintf(&b, "  - {verbs: [delete], tables: [public.%s]%s}\n", t.name, effects)
				continue
			case "truncate":
				fmt.Fprintf(&b, "  - {verbs: [truncate], tables: [public.%s]}\n", t.name)
				continue
			}
			fmt.Fprintf(&b, "  - {verbs: [%s], tables: [public.%s], columns: [%s]%s}\n", verb, t.name, strings.Join(write, ", "), effects)
		}
	}
	b.WriteString("  - {ddl: [{verbs: [create_table, alter_table, drop_table, create_index, create_view, drop_view, create_sequence, alter_sequence, drop_sequence], in: [pg_temp.*]}, {verbs: [alter_sequence], in: [public.ledger_id_seq, public.ledger_n_seq]}]}\n")
	return b.String() + "mask:\n" + masks.String() + "  - {column: public.vault.v, with: 'null'}\n"
}
