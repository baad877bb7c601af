package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Fingerprint gives a short text that changes when anything that Load reads
// has changed: of each catalog how many rows it has, and a hash over the
// transactions that wrote them. It costs a few milliseconds.
func Fingerprint(ctx context.Context, conn *pgx.Conn) (string, error) {
	query := "SELECT concat_ws(' ', current_user, current_setting('search_path'), (SELECT concat(rolsuper, rolbypassrls) FROM pg_catalog.pg_roles WHERE rolname = current_user)"
	for _, c := range []string{"pg_class", "pg_attribute", "pg_attrdef", "pg_proc", "pg_constraint", "pg_trigger", "pg_rewrite", "pg_type", "pg_namespace",
		"pg_index", "pg_inherits", "pg_policy", "pg_operator", "pg_cast", "pg_extension", "pg_event_trigger", "pg_authid_members"} {
		if c == "pg_authid_members" {
			c = "pg_auth_members"
		}
		// pg_class rows are rewritten in place by VACUUM and ANALYZE, which do not touch xmin.
		query += fmt.Sprintf(", (SELECT count(*) || ':' || coalesce(sum((hashint8(xmin::text::bigint) # hashtid(ctid))::bigint)::text, '') FROM pg_catalog.%s)", c)
	}
	var mark string
	if err := conn.QueryRow(ctx, query+")").Scan(&mark); err != nil {
		return "", fmt.Errorf("schema: %w", err)
	}
	return mark, nil
}
