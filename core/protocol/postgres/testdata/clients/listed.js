// A node-postgres program that looks at what tables there are, as an ORM does.
const { Client } = require('pg');

async function main() {
  const client = new Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  for (const text of [
    "select table_schema, table_name from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') order by 2",
    "select c.table_name, c.column_name, c.udt_name, c.is_nullable from information_schema.columns c where c.table_schema = 'public' order by 1, c.ordinal_position",
    "select k.table_name, k.column_name, u.table_name as target from information_schema.key_column_usage k join information_schema.constraint_column_usage u using (constraint_name) order by 1, 2, 3",
    "select t.typname, e.enumlabel from pg_type t join pg_enum e on e.enumtypid = t.oid order by t.typname, e.enumsortorder",
    "select t.relname, i.relname as index, ix.indisprimary from pg_class t join pg_index ix on t.oid = ix.indrelid join pg_class i on i.oid = ix.indexrelid where t.relkind = 'r' and t.oid > 16384 order by 1, 2",
    "select conname, conrelid::regclass as on, confrelid::regclass as to from pg_constraint where contype = 'f' order by 1",
  ]) {
    const r = await client.query(text);
    for (const row of r.rows) console.log(Object.values(row).join(' '));
  }
  await client.end();
}

main().catch((e) => { console.error(e); process.exit(1); });
