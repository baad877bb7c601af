// A postgres.js program that knows nothing of the gateway.
const postgres = require('postgres');

async function main() {
  const sql = postgres(process.env.DATABASE_URL, { max: 2, onnotice: () => {} });
  console.log('row', ...Object.values((await sql`select id, status from orders where id = ${3}`)[0]));
  const types = (await sql`select array[1, 2] as a, now() is not null as n, ${sql.json({ a: 1 })}::jsonb as j`)[0];
  console.log('types', JSON.stringify(types));
  try {
    await sql.begin(async (t) => {
      console.log('updated', (await t`update orders set status = 'done' where id = 3`).count);
      await t`delete from orders where id = 3`;
    });
  } catch (e) {
    console.log('refused', [e.code, e.message, e.detail, e.hint].join(' | '));
  }
  console.log('back', (await sql`select status from orders where id = 3`)[0].status);
  const rows = [{ order_id: 1, sku: 'a', quantity: 1, price: 1 }, { order_id: 2, sku: 'b', quantity: 2, price: 1 }];
  console.log('inserted', (await sql`insert into items ${sql(rows)} returning sku`).map((r) => r.sku).join());
  let n = 0;
  await sql`select id from orders`.cursor(60, (some) => { n += some.length; });
  console.log('cursor', n);
  const text = [];
  for await (const c of await sql`copy (select id from orders where id < 4 order by id) to stdout`.readable()) text.push(c);
  console.log('copied', JSON.stringify(Buffer.concat(text).toString()));
  const all = await Promise.all([1, 2, 3, 4, 5].map((id) => sql`select id from orders where id = ${id}`));
  console.log('pipelined', all.map((r) => r[0].id).join());
  console.log('simple', (await sql`select 1 as a; select 2 as a`.simple()).map((r) => r[0].a).join());
  const heard = new Promise((ok) => { sql.listen('news', ok).then(() => sql.unsafe("notify news, 'hello'")); });
  console.log('heard', await heard);
  await sql.end();
}

main().catch((e) => { console.error(e); process.exit(1); });
