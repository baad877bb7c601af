package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Mark tells one state of the catalogs from another.
type Mark struct {
	Server string // of what the server came with
	Users  string // of everything else
}

// Fingerprint gives a mark that changes when anything that Load reads has
// changed: of each catalog how many rows it has, and a hash over the transactions
// that wrote them, but for temporary relations, which are one session's own and
// come and go. It costs a few milliseconds.
func Fingerprint(ctx context.Context, conn *pgx.Conn) (Mark, error) {
	const users = "16384" // no OID of the server's own
	var server, user, from strings.Builder
	for i, c := range []struct{ catalog, of, but string }{
		{"pg_class", "oid", "oid"}, {"pg_attribute", "attrelid", "attrelid"}, {"pg_attrdef", "adrelid", "adrelid"}, {"pg_proc", "oid", ""},
		{"pg_constraint", "CASE conrelid WHEN 0 THEN contypid ELSE conrelid END", "conrelid"}, {"pg_trigger", "tgrelid", "tgrelid"}, {"pg_rewrite", "ev_class", "ev_class"},
		{"pg_type", "oid", ""}, {"pg_namespace", "oid", ""}, {"pg_index", "indrelid", "indrelid"}, {"pg_inherits", "inhrelid", "inhrelid"}, {"pg_policy", "polrelid", "polrelid"},
		{"pg_operator", "oid", ""}, {"pg_cast", users, ""}, {"pg_extension", users, ""}, {"pg_event_trigger", users, ""}, {"pg_auth_members", users, ""},
		{"pg_depend", "objid", ""}, {"pg_depend", users, "refobjid"}, {"pg_depend", users, "objid"},
	} {
		which := "true"
		switch {
		case c.catalog == "pg_depend" && c.but == "objid": // what else than relations, types and functions is in a namespace
			which = otherwise
		case c.catalog == "pg_depend" && c.but != "": // which column a sequence belongs to
			which = "classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND refclassid = classid AND refobjsubid <> 0 AND refobjid >= 16384 AND deptype IN ('a', 'i') AND refobjid NOT IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't')"
		case c.but != "":
			which = c.but + " NOT IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't')"
		case c.catalog == "pg_type":
			which = "typnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast_)?temp')"
		case c.catalog == "pg_namespace":
			which = "nspname !~ '^pg_(toast_)?temp'"
		case c.catalog == "pg_depend": // what is of an extension
			which = "refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
		}
		// pg_class rows are rewritten in place by VACUUM and ANALYZE, which do not touch xmin.
		fmt.Fprintf(&from, ", (SELECT concat(count(*) FILTER (WHERE s), ':', sum(h) FILTER (WHERE s)), concat(count(*) FILTER (WHERE NOT s), ':', sum(h) FILTER (WHERE NOT s))"+
			" FROM (SELECT %s < 16384, (hashint8(xmin::text::bigint) # hashtid(ctid))::bigint FROM pg_catalog.%s WHERE %s) x(s, h)) c%d(s, u)", c.of, c.catalog, which, i)
		fmt.Fprintf(&server, ", c%d.s", i)
		fmt.Fprintf(&user, ", c%d.u", i)
	}
	var m Mark
	err := conn.QueryRow(ctx, "SELECT concat_ws(' ', current_setting('server_version_num')"+server.String()+"), concat_ws(' ', current_user, current_setting('search_path'), roles"+user.String()+
		") FROM (SELECT string_agg(concat(rolname, rolsuper, rolinherit, rolbypassrls), ' ' ORDER BY oid) FROM pg_catalog.pg_roles WHERE pg_has_role(oid, 'MEMBER')) r(roles)"+from.String(),
		pgx.QueryExecModeCacheStatement).Scan(&m.Server, &m.Users)
	if err != nil {
		return Mark{}, fmt.Errorf("schema: %w", err)
	}
	return m, nil
}
