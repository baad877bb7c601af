# A psycopg2 program that knows nothing of the gateway.
import io
import os

import psycopg2
import psycopg2.extras

c = psycopg2.connect(os.environ["DATABASE_URL"])
cur = c.cursor()
cur.execute("select id, status from orders where id = %s", (3,))
print("row", *cur.fetchone())
cur.executemany("update orders set status = %s where id = %s", [("done", 3), ("done", 4)])
try:
    cur.execute("delete from orders where id = 3")
except psycopg2.Error as e:
    print("refused", e.pgcode, e.diag.message_primary, e.diag.message_detail, e.diag.message_hint, sep=" | ")
try:
    cur.execute("select 1")
except psycopg2.Error as e:
    print("still in", e.pgcode)
c.rollback()
cur.execute("select status from orders where id = 3")
print("back", *cur.fetchone())
s = c.cursor("by_and_by")
s.itersize = 50
s.execute("select id from orders order by id")
print("cursor", sum(r[0] for r in s))
s.close()
psycopg2.extras.execute_values(cur, "insert into items (order_id, sku, quantity, price) values %s", [(1, "s", i, 1) for i in range(250)])
out = io.StringIO()
cur.copy_expert("copy (select id, status from orders where id < 3 order by id) to stdout", out)
print("copied", repr(out.getvalue()))
cur.copy_expert("copy items (order_id, sku, quantity, price) from stdin", io.StringIO("1\ta\t1\t1\n2\tb\t1\t1\n"))
print("copied in", cur.rowcount)
c.commit()
c.autocommit = True
cur.execute("""select array[1, 2], %s::jsonb, null, now() is not null""", ('{"a": 1}',))
print("types", *cur.fetchone())
c.set_session(isolation_level="SERIALIZABLE", readonly=True)
cur.execute("show default_transaction_isolation")
print(*cur.fetchone())
c.close()
