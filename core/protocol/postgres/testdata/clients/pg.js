// A node-postgres program that knows nothing of the gateway.
const { Client, Pool } = require('pg');

async function main() {
  const client = new Client({ connectionString: process.env.DATABASE_URL });
  client.on('notice', () => {});
  await client.connect();
  console.log('connected');
  let r = await client.query('select id, status from orders where id = $1', [3]);
  console.log('row', r.rows[0].id, r.rows[0].status);
  for (const id of [3, 4]) {
    r = await client.query({ name: 'by-id', text: 'select id, status from orders where id = $1', values: [id] });
    console.log('named', r.rows[0].id, r.rows[0].status);
  }
  await client.query('begin');
  r = await client.query('update orders set status = $1 where id = $2', ['done', 3]);
  console.log('updated', r.rowCount);
  try {
    await client.query('delete from orders where id = $1', [3]);
  } catch (e) {
    console.log('refused', e.code, [e.message, e.detail, e.hint].join(' | '));
  }
  await client.query('select 1').catch((e) => console.log('still in:', e.code));
  await client.query('rollback');
  r = await client.query('select status from orders where id = 3');
  console.log('back', r.rows[0].status);
  r = await client.query('select $1::text is null as n', [null]);
  console.log('null', r.rows[0].n);
  await client.end();

  const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 3 });
  const all = await Promise.all([1, 2, 3, 4, 5].map((id) => pool.query('select id from orders where id = $1', [id])));
  console.log('pool', all.map((a) => a.rows[0].id).join(','));
  await pool.end();
  console.log('done');
}

main().catch((e) => { console.error(e); process.exit(1); });
