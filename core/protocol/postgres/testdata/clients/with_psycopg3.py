# A psycopg 3 program that knows nothing of the gateway.
import decimal
import enum
import logging
import os

import psycopg
from psycopg.rows import dict_row
from psycopg.types.enum import EnumInfo, register_enum

c = psycopg.connect(os.environ["DATABASE_URL"], row_factory=dict_row)
for _ in range(7):  # the sixth is a prepared statement
    row = c.execute("select id, status from orders where id = %s", (3,)).fetchone()
print("row", row)
print("binary", c.execute("select id, total, created is not null as made from orders where id = %b", (3,), binary=True).fetchone()["made"])
c.commit()
try:
    c.execute("delete from orders where id = %s", (3,))
except psycopg.errors.InsufficientPrivilege as e:
    print("refused", e.sqlstate, e.diag.message_primary, e.diag.message_detail, e.diag.message_hint, sep=" | ")
try:
    c.execute("select 1")
except psycopg.errors.InFailedSqlTransaction as e:
    print("still in", e.sqlstate)
c.rollback()
with c.transaction():
    c.execute("update orders set note = 'outer' where id = 3")
    try:
        with c.transaction():
            c.execute("update orders set note = 'inner' where id = 3")
            c.execute("select 1/0")
    except psycopg.errors.DivisionByZero:
        pass
print("note", c.execute("select note from orders where id = 3").fetchone()["note"])
try:
    c.execute("select id,\n nothing from orders")
except psycopg.errors.UndefinedColumn as e:
    print("at", e.diag.statement_position)
c.rollback()
with c.pipeline():
    curs = [c.execute("select %s::int as n", (i,)) for i in range(5)]
    print("pipelined", *(cur.fetchone()["n"] for cur in curs))
logging.getLogger("psycopg").setLevel(logging.ERROR)  # where the refusal is there before the third is sent, it says so
try:
    with c.pipeline():
        c.execute("select 1")
        c.execute("delete from orders")
        c.execute("select 2")
except psycopg.Error as e:
    print("refused in it", e.sqlstate)
c.rollback()
with c.cursor("by_and_by") as s:
    s.itersize = 50
    s.execute("select id from orders order by id")
    print("cursor", sum(r["id"] for r in s))
cur = c.cursor()
with cur.copy("copy (select id, status from orders where id < 3 order by id) to stdout") as copy:
    print("copied", list(copy.rows()))
for how in ("", " with (format binary)"):
    with cur.copy("copy items (order_id, sku, quantity, price) from stdin" + how) as copy:
        copy.set_types(["int4", "text", "int4", "numeric"])
        for i in range(3):
            copy.write_row((1, "three", i, decimal.Decimal("1.5")))
    print("copied in", cur.rowcount)
try:
    with cur.copy("copy items (order_id, sku, quantity) from stdin") as copy:
        copy.write("not a number\n")
except psycopg.Error as e:
    print("not copied", e.sqlstate)
c.rollback()
cur.executemany("insert into items (order_id, sku, quantity, price) values (%s, %s, %s, %s) returning quantity", [(1, "m", i, 1) for i in range(3)], returning=True)
print("many", cur.fetchone()["quantity"], cur.nextset(), cur.fetchone()["quantity"])
c.commit()
info = EnumInfo.fetch(c, "order_state")
State = enum.Enum("State", {label: label for label in info.labels})
register_enum(info, c, State)
print("enum", c.execute("select %s::order_state as s", (list(State)[0],)).fetchone()["s"])
c.commit()
c.autocommit = True
c.add_notify_handler(lambda n: print("heard", n.channel, n.payload))
c.execute("listen news")
c.execute("notify news, 'hello'")
c.close()
