# An SQLAlchemy program that knows nothing of the gateway: a schema that is
# reflected, the core and the ORM.
import os

import sqlalchemy as sa
from sqlalchemy.orm import Session, declarative_base

e = sa.create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg2://"))
look = sa.inspect(e)
print("tables", *sorted(look.get_table_names()))
print("columns", *(c["name"] for c in look.get_columns("orders")))
print("key", *look.get_pk_constraint("orders")["constrained_columns"])
print("foreign", *(k["constrained_columns"][0] + ">" + k["referred_table"] for k in look.get_foreign_keys("items")))
print("unique", *(u["name"] for u in look.get_unique_constraints("customers")))
print("indexes", *(i["name"] for i in look.get_indexes("customers")))
print("views", *look.get_view_names())
meta = sa.MetaData()
meta.reflect(e)
print("reflected", len(meta.tables))
orders = meta.tables["orders"]
with e.begin() as c:
    print("row", *c.execute(sa.select(orders.c.id, orders.c.status).where(orders.c.id == 3)).one())
    print("updated", c.execute(orders.update().where(orders.c.id == 3).values(status="done")).rowcount)
Base = declarative_base()


class Item(Base):  # declared: introspection tells no defaults, so that a reflected key is not known to number itself
    __tablename__ = "items"
    id = sa.Column(sa.Integer, primary_key=True)
    order_id = sa.Column(sa.Integer)
    sku = sa.Column(sa.Text)
    quantity = sa.Column(sa.Integer)
    price = sa.Column(sa.Numeric)


with Session(e) as s:
    i = Item(order_id=1, sku="x", quantity=1, price=2)
    s.add(i)
    s.flush()
    print("inserted", i.id is not None)
    s.delete(i)
    try:
        s.flush()
    except sa.exc.ProgrammingError as x:
        print("refused", x.orig.pgcode, x.orig.diag.message_primary)
    s.rollback()
try:
    meta.create_all(e, checkfirst=False)
except sa.exc.ProgrammingError as x:
    print("refused", x.orig.pgcode, x.orig.diag.message_primary)
