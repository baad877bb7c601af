# An SQLAlchemy program that reflects whatever there is.
import os

import sqlalchemy as sa

e = sa.create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg2://"))
look = sa.inspect(e)
print("tables", *sorted(look.get_table_names()))
print("schemas", *look.get_schema_names())
print("enums", *(x["name"] for x in look.get_enums()))
print("foreign", *(k["constrained_columns"][0] + ">" + k["referred_table"] for t in look.get_table_names() for k in look.get_foreign_keys(t)))
print("views", *look.get_view_names())
meta = sa.MetaData()
meta.reflect(e, views=True)
print("reflected", *sorted(meta.tables))
