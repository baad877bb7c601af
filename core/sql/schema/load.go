package schema

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Rows asks one query and calls f with each row, after reading it into into.
type Rows func(query string, into []any, f func()) error

// Load reads a snapshot in one read-only transaction of its own. The
// connection's login is the one that sessions will have.
func Load(ctx context.Context, conn *pgx.Conn) (*Schema, error) {
	return read(ctx, conn, &loader{s: empty()}, pgx.QueryExecModeExec)
}

// Reload is Load where the server's own part is as it was when known was read. It
// costs a few milliseconds where there are few tables, which Load does not: half of
// it were the plans of these queries, which the server keeps.
func Reload(ctx context.Context, conn *pgx.Conn, known *Schema) (*Schema, error) {
	return read(ctx, conn, behind(known), pgx.QueryExecModeCacheStatement)
}

func read(ctx context.Context, conn *pgx.Conn, l *loader, mode pgx.QueryExecMode) (*Schema, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	// Views are printed with every name qualified.
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('search_path', '', true)"); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	l.rows = func(query string, into []any, f func()) error {
		if l.held != "" { // nobody asks that again
			mode = pgx.QueryExecModeExec
		}
		r, err := tx.Query(ctx, query, mode)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(r, into, func() error { f(); return nil })
		return err
	}
	return l.load()
}

// Within reads a snapshot as a transaction sees it that has changed the catalog,
// through that transaction's own connection, whose search_path is empty. What
// the server itself has nobody changes: that is known from before.
func Within(known *Schema, rows Rows) (*Schema, error) {
	l := behind(known)
	l.rows = rows
	return l.load()
}

// behind is of what users have made alone: the rest is taken from what is known.
func behind(known *Schema) *loader {
	l := &loader{s: empty(), from: firstUser}
	for oid, r := range known.Relations {
		if oid < firstUser {
			l.s.Relations[oid] = r
			if r.Kind != 'c' {
				l.s.RelationByName[r.Name] = r
			}
		}
	}
	for oid, f := range known.Functions {
		if oid < firstUser {
			l.s.Functions[oid] = f
		}
	}
	for name, list := range known.FunctionsNamed {
		if own := slices.DeleteFunc(slices.Clone(list), func(f *Function) bool { return f.OID >= firstUser }); len(own) > 0 {
			l.s.FunctionsNamed[name] = own
		}
	}
	for oid, o := range known.Operators {
		if oid < firstUser {
			l.s.Operators[oid] = o
		}
	}
	for name, list := range known.OperatorsNamed {
		if own := slices.DeleteFunc(slices.Clone(list), func(o *Operator) bool { return o.OID >= firstUser }); len(own) > 0 {
			l.s.OperatorsNamed[name] = own
		}
	}
	for oid, t := range known.Types {
		if oid < firstUser {
			l.s.Types[oid], l.s.TypeByName[t.Name] = t, t
		}
	}
	return l
}

// Own reads the temporary relations that a session has, through its own
// connection, for Over. They are of a server of the major version that known is of.
func Own(known *Schema, rows Rows) (*Schema, error) {
	l := &loader{s: empty(), rows: rows, temp: true}
	l.s.Major = known.Major
	own, err := l.do(l.related())
	l.s.HasTemporary = len(l.s.Relations) > 0
	return own, err
}

// Over gives a snapshot with a session's own temporary relations added, as Own
// gave them. Both stay as they are.
func Over(s, own *Schema) *Schema {
	out := *s
	out.Relations, out.RelationByName, out.Types, out.TypeByName = maps.Clone(s.Relations), maps.Clone(s.RelationByName), maps.Clone(s.Types), maps.Clone(s.TypeByName)
	maps.Copy(out.Relations, own.Relations)
	maps.Copy(out.RelationByName, own.RelationByName)
	maps.Copy(out.Types, own.Types)
	maps.Copy(out.TypeByName, own.TypeByName)
	out.HasTemporary, out.HasPolicies = own.HasTemporary, s.HasPolicies || own.HasPolicies
	return &out
}

// firstUser is the first OID that the server gives to what users make.
const firstUser = 16384

func empty() *Schema {
	return &Schema{Namespaces: map[string]OID{}, Relations: map[OID]*Relation{}, Functions: map[OID]*Function{},
		Operators: map[OID]*Operator{}, Types: map[OID]*Type{}, RelationByName: map[Name]*Relation{}, TypeByName: map[Name]*Type{},
		Tied: map[string]bool{}, Looked: map[string]bool{}, unsaid: &sync.Map{}, FunctionsNamed: map[string][]*Function{}, OperatorsNamed: map[string][]*Operator{}}
}

type step struct {
	what string
	read func() error
}

func (l *loader) load() (*Schema, error) {
	steps := append([]step{{"session", l.session}, {"locks", l.locks}}, l.related()...)
	return l.do(append(steps, step{"locked", l.spread}, step{"functions", l.functions}, step{"operators", l.operators}, step{"casts", l.casts}, step{"extensions", l.extensions},
		step{"event triggers", l.eventTriggers}))
}

// related are relations, and what each of them has.
func (l *loader) related() []step {
	return []step{{"relations", l.relations}, {"columns", l.columns}, {"views", l.views}, {"inheritance", l.inheritance}, {"indexes", l.indexes},
		{"foreign keys", l.foreignKeys}, {"checks", l.checks}, {"triggers", l.triggers}, {"rules", l.rules}, {"policies", l.policies}, {"types", l.types}, {"dependents", l.dependents}, {"namespaces", l.ties}}
}

func (l *loader) do(steps []step) (*Schema, error) {
	for _, step := range steps {
		if err := step.read(); err != nil {
			return nil, fmt.Errorf("schema: %s: %w", step.what, err)
		}
	}
	return l.s, nil
}

// The major versions whose catalogs are known.
const oldest, newest = 13, 18

// Unsupported is the major version of a server whose catalogs are not known.
type Unsupported int

func (u Unsupported) Error() string {
	return fmt.Sprintf("PostgreSQL %d is not supported: servers %d to %d are", int(u), oldest, newest)
}

type loader struct {
	rows Rows
	s    *Schema
	from OID    // what has a lower one is known
	temp bool   // only the session's own temporary relations are asked for
	held string // OIDs of relations of which the server prints nothing just now, with commas
}

// locks finds what the server would wait for if it were asked to print it: relations
// that another transaction has locked, or waits to lock, against everybody, and what
// reads them.
func (l *loader) locks() error {
	var oid OID
	var held []string
	err := l.rows(`WITH l AS (SELECT relation FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND relation >= 16384 AND pid IS DISTINCT FROM pg_backend_pid()
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
		SELECT relation FROM l
		UNION SELECT r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT relation FROM l)
		UNION SELECT p.polrelid FROM pg_depend d JOIN pg_policy p ON p.oid = d.objid WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT relation FROM l)`,
		[]any{&oid}, func() { held = append(held, fmt.Sprint(oid)) })
	l.held = strings.Join(held, ",")
	return err
}

// printed is an expression that prints something of a relation, and may wait for it.
func (l *loader) printed(relation, expr string) string {
	if l.held == "" {
		return "coalesce(" + expr + ", '')"
	}
	return "CASE WHEN " + relation + " IN (" + l.held + ") THEN '' ELSE coalesce(" + expr + ", '') END"
}

// spread marks what is locked, and what shares rows with it.
func (l *loader) spread() error {
	var mark func(r *Relation)
	mark = func(r *Relation) {
		if r == nil || r.Locked {
			return
		}
		r.Locked, l.s.HasLocked = true, true
		for _, oid := range slices.Concat(r.Parents, r.Children) {
			mark(l.s.Relations[oid])
		}
	}
	for held := range strings.SplitSeq(l.held, ",") {
		oid, _ := strconv.ParseUint(held, 10, 32)
		mark(l.s.Relations[OID(oid)])
	}
	return nil
}

// Same says whether two snapshots say the same, whatever they are marked with.
func Same(a, b *Schema) bool {
	c := *a
	c.Version, c.Mark, c.unsaid = b.Version, b.Mark, b.unsaid
	return reflect.DeepEqual(&c, b)
}

// Temporary is the schema that a session's own temporary relations are in, by
// the name that it has in texts. At the server it is pg_temp_3 or some such.
const Temporary = "pg_temp"

// What is in a schema n has that one's name; of those that are some session's own
// nothing is told that all see.
const (
	namespace = `CASE WHEN n.oid = pg_my_temp_schema() THEN 'pg_temp' ELSE n.nspname::text END`
	shared    = ` n.nspname !~ '^pg_(toast|temp)' AND`
)

// new adds to a query that it asks for what is not known alone, by the relation
// that it is of.
func (l *loader) new(relation string) string {
	if l.temp {
		return " " + relation + " IN (SELECT c.oid FROM pg_class c WHERE c.relnamespace = pg_my_temp_schema()) "
	}
	return l.later(relation)
}

// reached is for what is in a schema n.
func (l *loader) reached() string {
	if l.temp {
		return " n.oid = pg_my_temp_schema() AND"
	}
	return shared
}

// later is new for what is of no relation.
func (l *loader) later(oid string) string { return fmt.Sprintf(" %s >= %d ", oid, l.from) }

func (l *loader) session() error {
	var version int
	var path string
	found := false
	err := l.rows(`SELECT current_setting('server_version_num')::int, current_database()::text, r.rolname::text, current_user = session_user, r.rolsuper, r.rolbypassrls,
		coalesce((SELECT reset_val FROM pg_settings WHERE name = 'search_path'), '')
		FROM pg_roles r WHERE r.rolname = current_user`,
		[]any{&version, &l.s.Database, &l.s.Role.Name, &l.s.Role.Itself, &l.s.Role.Superuser, &l.s.Role.BypassRLS, &path}, func() { found = true })
	if err == nil && !found {
		err = errors.New("the role is not known")
	}
	if err != nil {
		return err
	}
	if l.s.Major = version / 10000; l.s.Major < oldest || l.s.Major > newest {
		return Unsupported(l.s.Major)
	}
	var oid OID
	var name string
	if err := l.rows(`SELECT oid, nspname::text FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'`, []any{&oid, &name}, func() { l.s.Namespaces[name] = oid }); err != nil {
		return err
	}
	for p := range strings.SplitSeq(path, ",") {
		p = strings.TrimSpace(p)
		if p == `"$user"` {
			p = l.s.Role.Name
		}
		p = strings.Trim(p, `"`)
		if _, ok := l.s.Namespaces[p]; ok && p != "pg_catalog" {
			l.s.SearchPath = append(l.s.SearchPath, p)
		}
	}
	return nil
}

func (l *loader) relations() error {
	var r Relation
	var kind string
	var owned bool
	var of OID
	sequences := map[OID][]OID{}
	err := l.rows(`SELECT c.oid, `+namespace+`, c.relname::text, c.relkind::text, c.relowner, c.relrowsecurity, c.relpersistence = 'p', c.reltype,
			n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast'),
			coalesce((SELECT e.extname::text FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' LIMIT 1), ''),
			pg_has_role(c.relowner, 'USAGE'), c.relkind = 'v' AND EXISTS (SELECT FROM pg_options_to_table(c.reloptions) WHERE option_name = 'security_invoker' AND option_value::boolean),
			CASE WHEN c.relkind = 'S' THEN coalesce((SELECT d.refobjid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
				AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid <> 0 AND d.deptype IN ('a', 'i') LIMIT 1), 0) ELSE 0 END
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND`+l.reached()+l.new("c.oid")+`ORDER BY n.nspname, c.relname`,
		[]any{&r.OID, &r.Name.Namespace, &r.Name.Name, &kind, &r.Owner, &r.RowLevel, &r.Persistent, &r.RowType, &r.System, &r.Extension, &owned, &r.Invoker, &of}, func() {
			n := r
			n.Kind = kind[0]
			n.say()
			l.s.Relations[n.OID] = &n
			if n.Kind != 'c' { // a composite type: FROM cannot name it
				l.s.RelationByName[n.Name] = &n
			}
			if owned && !n.System && n.Kind != 'S' && n.Kind != 'c' {
				l.s.Role.Owns = append(l.s.Role.Owns, n.Name)
			}
			if of != 0 {
				sequences[of] = append(sequences[of], n.OID)
			}
		})
	for of, list := range sequences {
		if r := l.s.Relations[of]; r != nil {
			r.Sequences = list
		}
	}
	return err
}

func (l *loader) columns() error {
	var rel OID
	var c Column
	var identity, generated string
	return l.rows(`SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.attnotnull, a.attidentity::text, a.attgenerated::text,
			`+l.printed("a.attrelid", "pg_get_expr(d.adbin, d.adrelid), pg_get_expr(t.typdefaultbin, 0)")+`
		FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attnum > 0 AND NOT a.attisdropped AND`+l.new("a.attrelid")+`ORDER BY a.attrelid, a.attnum`,
		[]any{&rel, &c.Num, &c.Name, &c.Type, &c.NotNull, &identity, &generated, &c.Default}, func() {
			if r := l.s.Relations[rel]; r != nil {
				n := c
				n.Identity, n.Generated = first(identity), first(generated)
				r.Columns = append(r.Columns, n)
			}
		})
}

func first(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

func (l *loader) views() error {
	var rel OID
	var text string
	return l.rows(`SELECT c.oid, `+l.printed("c.oid", "pg_get_viewdef(c.oid)")+` FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND`+l.new("c.oid"), []any{&rel, &text}, func() {
		if r := l.s.Relations[rel]; r != nil {
			r.View = text
		}
	})
}

func (l *loader) inheritance() error {
	var child, parent OID
	var key []int16
	var exprs string
	if err := l.rows(`SELECT partrelid, partattrs::int2[], `+l.printed("partrelid", "pg_get_expr(partexprs, partrelid)")+` FROM pg_partitioned_table WHERE`+l.new("partrelid"), []any{&parent, &key, &exprs}, func() {
		if p := l.s.Relations[parent]; p != nil {
			p.PartitionKey, p.PartitionExprs = slices.Clone(key), exprs
		}
	}); err != nil {
		return err
	}
	return l.rows(`SELECT inhrelid, inhparent FROM pg_inherits WHERE`+l.new("inhrelid")+`ORDER BY 1, 2`, []any{&child, &parent}, func() {
		if c, p := l.s.Relations[child], l.s.Relations[parent]; c != nil && p != nil {
			c.Parents, p.Children = append(c.Parents, parent), append(p.Children, child)
		}
	})
}

func (l *loader) indexes() error {
	nulls := "false"
	if l.s.Major >= 15 {
		nulls = "i.indnullsnotdistinct"
	}
	var rel OID
	var x Index
	var keys int16
	// Rows that an index tells apart may be equal to the column's own operator: where the column's collation takes different texts for
	// equal and the index has another, and under operators of another class. Those of patterns are the same.
	return l.rows(`SELECT i.indrelid, c.relname::text, i.indisunique AND i.indimmediate AND i.indisvalid AND NOT EXISTS (
				SELECT FROM unnest(i.indclass::oid[], i.indcollation::oid[], i.indkey::int2[]) WITH ORDINALITY k(opclass, coll, num, n)
					JOIN pg_attribute t ON t.attrelid = i.indrelid AND t.attnum = k.num
					JOIN pg_opclass o ON o.oid = k.opclass LEFT JOIN pg_collation own ON own.oid = t.attcollation
				WHERE k.n <= i.indnkeyatts AND (k.coll <> t.attcollation AND NOT own.collisdeterministic OR NOT o.opcdefault AND NOT (o.opcname LIKE '%\_pattern\_ops' AND o.opcnamespace = 'pg_catalog'::regnamespace))),
			i.indisexclusion, i.indkey::int2[], i.indnkeyatts, i.indexprs IS NOT NULL, i.indpred IS NOT NULL, `+nulls+`,
			i.indisunique OR i.indisexclusion, `+l.printed("i.indrelid", "pg_get_expr(i.indexprs, i.indrelid)")+`, `+l.printed("i.indrelid", "pg_get_expr(i.indpred, i.indrelid)")+`,
			NOT i.indisvalid
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE`+l.new("i.indrelid")+`ORDER BY c.relname`,
		[]any{&rel, &x.Name, &x.Unique, &x.Exclusion, &x.Columns, &keys, &x.Expression, &x.Partial, &x.Nulls, &x.Enforced, &x.Exprs, &x.Predicate, &x.Invalid}, func() {
			if r := l.s.Relations[rel]; r != nil {
				n := x
				n.Columns = slices.Clone(x.Columns[:keys]) // INCLUDE has others behind them
				r.Indexes = append(r.Indexes, n)
			}
		})
}

func (l *loader) foreignKeys() error {
	var f ForeignKey
	var up, del string
	return l.rows(`SELECT c.conname::text, c.conrelid, c.confrelid, c.conkey, c.confkey, c.confupdtype::text, c.confdeltype::text, p.oid IS NOT NULL
		FROM pg_constraint c LEFT JOIN pg_constraint p ON p.oid = c.conparentid AND p.confrelid = c.confrelid WHERE c.contype = 'f' AND`+l.new("c.conrelid")+`ORDER BY c.conname`,
		[]any{&f.Name, &f.From, &f.To, &f.FromColumns, &f.ToColumns, &up, &del, &f.Partition}, func() {
			n := f
			n.FromColumns, n.ToColumns, n.OnUpdate, n.OnDelete = slices.Clone(f.FromColumns), slices.Clone(f.ToColumns), first(up), first(del)
			if r := l.s.Relations[n.From]; r != nil {
				r.References = append(r.References, n)
			}
			if r := l.s.Relations[n.To]; r != nil {
				r.Referenced = append(r.Referenced, n)
			}
		})
}

func (l *loader) checks() error {
	var rel OID
	var c Check
	return l.rows(`SELECT conrelid, conname::text, coalesce(conkey, '{}'), `+l.printed("conrelid", "pg_get_constraintdef(oid)")+` FROM pg_constraint
		WHERE contype = 'c' AND conrelid <> 0 AND`+l.new("conrelid")+`ORDER BY conname`, []any{&rel, &c.Name, &c.Columns, &c.Text}, func() {
		if r := l.s.Relations[rel]; r != nil {
			n := c
			n.Columns = slices.Clone(c.Columns)
			r.Checks = append(r.Checks, n)
		}
	})
}

// triggers are those that somebody has made, and what partitions have of them:
// up to 14 the server calls these internal, as it does those of constraints.
func (l *loader) triggers() error {
	var rel OID
	var t Trigger
	var kind int16
	var source string
	return l.rows(`SELECT t.tgrelid, t.tgname::text, t.tgfoid, t.tgtype, t.tgattr::int2[], t.tgconstraint <> 0, t.tgparentid <> 0, p.prosrc
		FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgenabled <> 'D' AND`+l.new("t.tgrelid")+`AND (NOT t.tgisinternal OR
			t.tgparentid <> 0 AND (p.oid >= 16384 OR p.proname !~ '^(RI_FKey_|unique_key_recheck)')) ORDER BY t.tgname`,
		[]any{&rel, &t.Name, &t.Function, &kind, &t.Columns, &t.Constraint, &t.Clone, &source}, func() {
			if r := l.s.Relations[rel]; r != nil {
				n := t
				// The bits of tgtype (src/include/catalog/pg_trigger.h).
				n.Row = kind&1 != 0
				n.Insert, n.Delete, n.Update, n.Truncate, n.InsteadOf = kind&4 != 0, kind&8 != 0, kind&16 != 0, kind&32 != 0, kind&64 != 0
				n.Columns, n.SourceHash = slices.Clone(t.Columns), hash(source)
				r.Triggers = append(r.Triggers, n)
			}
		})
}

func hash(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

func (l *loader) rules() error {
	var rel OID
	var x Rule
	var event string
	return l.rows(`SELECT ev_class, rulename::text, ev_type::text, is_instead, `+l.printed("ev_class", "pg_get_ruledef(oid)")+` FROM pg_rewrite
		WHERE rulename <> '_RETURN' AND oid >= 16384 AND ev_enabled IN ('O', 'A') AND`+l.new("ev_class")+`ORDER BY rulename`, []any{&rel, &x.Name, &event, &x.Instead, &x.Text}, func() {
		if r := l.s.Relations[rel]; r != nil {
			n := x
			n.Event = first(event) - '0'
			r.Rules = append(r.Rules, n)
		}
	})
}

func (l *loader) policies() error {
	var rel OID
	var p Policy
	return l.rows(`SELECT polrelid, polname::text, `+l.printed("polrelid", "pg_get_expr(polqual, polrelid)")+`, `+l.printed("polrelid", "pg_get_expr(polwithcheck, polrelid)")+` FROM pg_policy WHERE`+l.new("polrelid")+`ORDER BY polname`,
		[]any{&rel, &p.Name, &p.Using, &p.Check}, func() {
			if r := l.s.Relations[rel]; r != nil {
				r.Policies, l.s.HasPolicies = append(r.Policies, p), true
			}
		})
}

func (l *loader) functions() error {
	var f Function
	var kind, volatility, source string
	var out []string
	var types []OID
	return l.rows(`SELECT p.oid, n.nspname::text, p.proname::text, p.proargtypes::oid[], p.pronargdefaults::int, p.provariadic, p.prorettype, p.proretset,
			p.prokind::text, p.provolatile::text, p.prosecdef, p.proowner, g.lanname::text, CASE WHEN p.oid < 16384 THEN '' ELSE p.prosrc END, n.nspname = 'pg_catalog' AND p.oid < 16384,
			coalesce((SELECT array_agg(coalesce(p.proargnames[i], '')::text ORDER BY i) FROM generate_subscripts(p.proargmodes, 1) i WHERE p.proargmodes[i] IN ('o', 'b', 't')), '{}'),
			coalesce((SELECT array_agg(p.proallargtypes[i] ORDER BY i) FROM generate_subscripts(p.proargmodes, 1) i WHERE p.proargmodes[i] IN ('o', 'b', 't')), '{}'),
			coalesce((SELECT e.extname::text FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' LIMIT 1), '')
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language g ON g.oid = p.prolang WHERE`+l.later("p.oid"),
		[]any{&f.OID, &f.Name.Namespace, &f.Name.Name, &f.Args, &f.Defaults, &f.Variadic, &f.Result, &f.ReturnsSet, &kind, &volatility, &f.Definer, &f.Owner, &f.Language, &source, &f.System, &out, &types, &f.Extension}, func() {
			n := f
			n.Args, n.Out, n.OutTypes, n.Kind, n.Volatility = slices.Clone(f.Args), slices.Clone(out), slices.Clone(types), first(kind), first(volatility)
			if source != "" {
				n.SourceHash = hash(source)
				if n.Language != "c" && n.Language != "internal" {
					looked(source, l.s.Looked)
				}
			}
			l.s.Functions[n.OID] = &n
			l.s.FunctionsNamed[n.Name.Name] = append(l.s.FunctionsNamed[n.Name.Name], &n)
		})
}

func (l *loader) operators() error {
	var o Operator
	return l.rows(`SELECT o.oid, n.nspname::text, o.oprname::text, o.oprleft, o.oprright, o.oprresult, o.oprcode::oid,
			coalesce((SELECT e.extname::text FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				WHERE d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e' LIMIT 1), '')
		FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE`+l.later("o.oid"),
		[]any{&o.OID, &o.Name.Namespace, &o.Name.Name, &o.Left, &o.Right, &o.Result, &o.Function, &o.Extension}, func() {
			n := o
			if l.s.Operators[n.OID] = &n; n.Name.Namespace != "pg_catalog" {
				l.s.OperatorsNamed[n.Name.Name] = append(l.s.OperatorsNamed[n.Name.Name], &n)
			}
		})
}

func (l *loader) types() error {
	var t Type
	var kind, category string
	if err := l.rows(`SELECT t.oid, `+namespace+`, t.typname::text, t.typtype::text, t.typcategory::text, t.typelem, t.typarray, t.typbasetype, t.typrelid, t.typinput::oid, t.typoutput::oid,
			coalesce((SELECT e.extname::text FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e' LIMIT 1), '')
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE`+l.reached()+l.later("t.oid"),
		[]any{&t.OID, &t.Name.Namespace, &t.Name.Name, &kind, &category, &t.Element, &t.Array, &t.Base, &t.Relation, &t.Input, &t.Output, &t.Extension}, func() {
			n := t
			n.Kind, n.Category = first(kind), first(category)
			l.s.Types[n.OID], l.s.TypeByName[n.Name] = &n, &n
		}); err != nil {
		return err
	}
	var domain OID
	var c Check
	return l.rows(`SELECT contypid, conname::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND contypid <> 0 AND`+l.later("contypid")+`ORDER BY conname`,
		[]any{&domain, &c.Name, &c.Text}, func() {
			if t := l.s.Types[domain]; t != nil {
				t.Checks = append(t.Checks, c)
			}
		})
}

func (l *loader) casts() error {
	var c Cast
	var context string
	return l.rows(`SELECT castsource, casttarget, castfunc, castcontext::text FROM pg_cast WHERE oid >= 16384`, []any{&c.Source, &c.Target, &c.Function, &context}, func() {
		n := c
		n.Context = first(context)
		l.s.Casts = append(l.s.Casts, n)
	})
}

func (l *loader) extensions() error {
	var e Extension
	return l.rows(`SELECT e.extname::text, e.extversion, n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace`,
		[]any{&e.Name, &e.Version, &e.Namespace}, func() { l.s.Extensions = append(l.s.Extensions, e) })
}

func (l *loader) eventTriggers() error {
	var t EventTrigger
	var source string
	return l.rows(`SELECT t.evtname::text, t.evtfoid, p.prosrc FROM pg_event_trigger t JOIN pg_proc p ON p.oid = t.evtfoid WHERE t.evtenabled <> 'D' ORDER BY t.evtname`,
		[]any{&t.Name, &t.Function, &source}, func() {
			n := t
			n.SourceHash = hash(source)
			l.s.EventTriggers = append(l.s.EventTriggers, n)
		})
}

// dependents finds what DROP … CASCADE would take along.
func (l *loader) dependents() error {
	var rel, view OID
	if err := l.rows(`SELECT DISTINCT d.refobjid, r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
		WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class AND d.refobjid >= 16384 AND r.rulename = '_RETURN' ORDER BY 1, 2`,
		[]any{&rel, &view}, func() {
			if r := l.s.Relations[rel]; r != nil {
				r.Views = append(r.Views, view)
			}
		}); err != nil {
		return err
	}
	if err := l.rows(`SELECT DISTINCT d.refobjid, k.adrelid FROM pg_depend d JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' JOIN pg_attrdef k ON k.oid = d.objid JOIN pg_class c ON c.oid = k.adrelid AND c.relpersistence <> 't'
		WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid >= 16384 ORDER BY 1, 2`,
		[]any{&rel, &view}, func() {
			if r := l.s.Relations[rel]; r != nil {
				r.Defaults = append(r.Defaults, view)
			}
		}); err != nil {
		return err
	}
	// A constraint trigger that names another table goes with that one too, by itself.
	if err := l.rows(`SELECT DISTINCT tgconstrrelid FROM pg_trigger WHERE tgconstrrelid NOT IN (0, tgrelid) AND NOT tgisinternal`, []any{&rel}, func() {
		if r := l.s.Relations[rel]; r != nil {
			r.Watched = true
		}
	}); err != nil {
		return err
	}
	var num int16
	if err := l.rows(`SELECT DISTINCT d.refobjid, d.refobjsubid::int2 FROM pg_depend d
		WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid >= 16384 AND d.refobjsubid > 0 AND d.deptype = 'n' AND (
			d.classid = 'pg_policy'::regclass AND EXISTS (SELECT FROM pg_policy k WHERE k.oid = d.objid AND k.polrelid = d.refobjid)
			OR d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger k WHERE k.oid = d.objid AND k.tgrelid = d.refobjid)
			OR d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite k WHERE k.oid = d.objid AND k.ev_class = d.refobjid AND k.rulename <> '_RETURN')) ORDER BY 1, 2`,
		[]any{&rel, &num}, func() {
			if r := l.s.Relations[rel]; r != nil {
				r.Bound = append(r.Bound, num)
			}
		}); err != nil {
		return err
	}
	return l.rows(`SELECT DISTINCT CASE WHEN d.refclassid = 'pg_class'::regclass THEN d.refobjid WHEN y.typrelid <> 0 THEN y.typrelid ELSE e.typrelid END
		FROM pg_depend d LEFT JOIN pg_type y ON d.refclassid = 'pg_type'::regclass AND y.oid = d.refobjid LEFT JOIN pg_type e ON e.oid = y.typelem
		WHERE d.refobjid >= 16384 AND d.deptype = 'n' AND NOT (d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite k WHERE k.oid = d.objid AND (k.rulename = '_RETURN' OR k.ev_class = d.refobjid)))
			AND (d.refclassid = 'pg_class'::regclass OR y.typrelid <> 0 OR e.typrelid <> 0)
			AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.contype = 'f'))
			AND NOT (d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT FROM pg_attrdef k WHERE k.oid = d.objid AND (k.adrelid = d.refobjid OR d.refclassid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class s WHERE s.oid = d.refobjid AND s.relkind = 'S'))))
			AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.conrelid = d.refobjid))
			AND NOT (d.classid = 'pg_policy'::regclass AND EXISTS (SELECT FROM pg_policy k WHERE k.oid = d.objid AND k.polrelid = d.refobjid))
			AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger k WHERE k.oid = d.objid AND k.tgrelid = d.refobjid))
			AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = d.objid AND h.inhparent = d.refobjid))`,
		[]any{&rel}, func() {
			if r := l.s.Relations[rel]; r != nil {
				r.Needed = true
			}
		})
}

// otherwise are the rows of pg_depend by which something is in a namespace that is no
// relation, type or function. public is made with the server, and users' all the same.
const otherwise = `refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND (refobjid >= 16384 OR refobjid = 2200) AND deptype = 'n'
	AND classid NOT IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass)`

// ties finds the namespaces that cannot be dropped with what is in them by what is
// known of that: views over relations, foreign keys to them and what else dependents
// finds are known.
func (l *loader) ties() error {
	var name string
	return l.rows(`WITH d AS MATERIALIZED (
			SELECT classid, objid, refclassid, refobjid FROM pg_depend WHERE refobjid >= 16384 AND (refclassid IN ('pg_type'::regclass, 'pg_proc'::regclass) AND deptype IN ('n', 'a')
				OR refclassid = 'pg_class'::regclass AND (deptype = 'n' OR deptype = 'a' AND classid NOT IN ('pg_class'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_policy'::regclass))
					AND NOT (classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = objid AND inhparent = refobjid))
					AND NOT (classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite r WHERE r.oid = objid AND r.rulename = '_RETURN')))
			UNION ALL SELECT 0, 0, classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND objid >= 16384)
		SELECT nspname::text FROM pg_namespace WHERE oid IN (
			SELECT refobjid FROM pg_depend WHERE `+otherwise+`
			UNION SELECT coalesce(c.relnamespace, y.typnamespace, f.pronamespace) FROM d
				LEFT JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
				LEFT JOIN pg_type y ON d.refclassid = 'pg_type'::regclass AND y.oid = d.refobjid
				LEFT JOIN pg_proc f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
				LEFT JOIN pg_attrdef a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
				LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
				LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
				LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
				LEFT JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
				LEFT JOIN pg_class oc ON oc.oid = coalesce(a.adrelid, nullif(k.conrelid, 0), w.ev_class, t.tgrelid, p.polrelid, CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid END)
				LEFT JOIN pg_type oy ON oy.oid = coalesce(nullif(k.contypid, 0), CASE WHEN d.classid = 'pg_type'::regclass THEN d.objid END)
				LEFT JOIN pg_proc f2 ON d.classid = 'pg_proc'::regclass AND f2.oid = d.objid
				WHERE coalesce(oc.relnamespace, oy.typnamespace, f2.pronamespace) IS DISTINCT FROM coalesce(c.relnamespace, y.typnamespace, f.pronamespace)
					AND NOT (c.oid IS NOT NULL AND (coalesce(k.contype = 'f', false) OR a.oid IS NOT NULL AND c.relkind = 'S')))`,
		[]any{&name}, func() { l.s.Tied[name] = true })
}
