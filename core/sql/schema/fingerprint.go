package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Fingerprint gives a short text that changes when anything that Load reads
// has changed: of each catalog how many rows it has, and a hash over the
// transactions that wrote them, but for temporary relations, which are one
// session's own and come and go. It costs a few milliseconds.
func Fingerprint(ctx context.Context, conn *pgx.Conn) (string, error) {
	query := "SELECT concat_ws(' ', current_user, current_setting('search_path'), (SELECT string_agg(concat(rolname, rolsuper, rolinherit, rolbypassrls), ' ' ORDER BY oid) FROM pg_catalog.pg_roles WHERE pg_has_role(oid, 'MEMBER'))"
	for _, c := range [][2]string{{"pg_class", "oid"}, {"pg_attribute", "attrelid"}, {"pg_attrdef", "adrelid"}, {"pg_proc"}, {"pg_constraint", "conrelid"}, {"pg_trigger", "tgrelid"},
		{"pg_rewrite", "ev_class"}, {"pg_type"}, {"pg_namespace"}, {"pg_index", "indrelid"}, {"pg_inherits", "inhrelid"}, {"pg_policy", "polrelid"}, {"pg_operator"}, {"pg_cast"},
		{"pg_extension"}, {"pg_event_trigger"}, {"pg_auth_members"}, {"pg_depend"}, {"pg_depend", "refobjid"}} {
		of := "true"
		switch {
		case c[0] == "pg_depend" && c[1] != "": // which column a sequence belongs to
			of = "classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND refclassid = classid AND refobjsubid <> 0 AND refobjid >= 16384 AND deptype IN ('a', 'i') AND refobjid NOT IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't')"
		case c[1] != "":
			of = c[1] + " NOT IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't')"
		case c[0] == "pg_type":
			of = "typnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast_)?temp')"
		case c[0] == "pg_namespace":
			of = "nspname !~ '^pg_(toast_)?temp'"
		case c[0] == "pg_depend": // what is of an extension
			of = "refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
		}
		// pg_class rows are rewritten in place by VACUUM and ANALYZE, which do not touch xmin.
		query += fmt.Sprintf(", (SELECT count(*) || ':' || coalesce(sum((hashint8(xmin::text::bigint) # hashtid(ctid))::bigint)::text, '') FROM pg_catalog.%s WHERE %s)", c[0], of)
	}
	var mark string
	if err := conn.QueryRow(ctx, query+")").Scan(&mark); err != nil {
		return "", fmt.Errorf("schema: %w", err)
	}
	return mark, nil
}
