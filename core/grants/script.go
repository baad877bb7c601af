package grants

import (
	"strings"
)

// script is what is to be run: whoever runs it twice has the same.
func (g *Grants) script() string {
	var b strings.Builder
	say := func(parts ...string) { // what stands in a comment ends with its line
		b.WriteString(strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
				return ' '
			}
			return r
		}, strings.Join(parts, "")) + "\n")
	}
	say("-- What the task ", g.Task, " may do at ", g.Resource, ", as a role and its GRANTs: a floor beneath the gateway, which can log in as this role.")
	say("-- Whatever PUBLIC may, the role may too. It has no password yet: \\password ", g.Role)
	list := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		say("--")
		say("-- ", title)
		for _, line := range lines {
			say("--   ", line)
		}
	}
	list("Only the gateway keeps, since no GRANT can say it:", g.Open)
	list("What the role may lack besides:", g.Needs)
	say()
	say("BEGIN;")
	say("DO $role$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '", g.Role, "') THEN CREATE ROLE ", quote(g.Role), " LOGIN; END IF; END $role$;")
	for _, s := range g.schemas { // of an earlier task, or an earlier version of it
		for _, all := range []string{"ALL TABLES", "ALL SEQUENCES", "ALL ROUTINES"} {
			b.WriteString("REVOKE ALL ON " + all + " IN SCHEMA " + quote(s) + " FROM " + quote(g.Role) + ";\n")
		}
		b.WriteString("REVOKE ALL ON SCHEMA " + quote(s) + " FROM " + quote(g.Role) + ";\n")
	}
	for i := range g.Grants {
		b.WriteString(g.Grants[i].statement(g.Role) + ";")
		say(" -- ", strings.Join(g.Grants[i].Why, ", "))
	}
	say("COMMIT;")
	return b.String()
}

func (g *Grant) statement(role string) string {
	columns := ""
	if len(g.Columns) > 0 {
		quoted := make([]string, len(g.Columns))
		for i, c := range g.Columns {
			quoted[i] = quote(c)
		}
		columns = " (" + strings.Join(quoted, ", ") + ")"
	}
	return "GRANT " + g.Privilege + columns + " ON " + g.On + " TO " + quote(role)
}
