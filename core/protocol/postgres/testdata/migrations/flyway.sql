-- In the manner of Flyway: a history table in a schema of its own, locked while
-- a version runs, all of it in one transaction.
SET search_path = shop, public;
BEGIN;
CREATE SCHEMA shop;
CREATE TABLE "shop"."flyway_schema_history" (
    "installed_rank" INT NOT NULL, "version" VARCHAR(50), "description" VARCHAR(200) NOT NULL, "type" VARCHAR(20) NOT NULL, "script" VARCHAR(1000) NOT NULL,
    "checksum" INTEGER, "installed_by" VARCHAR(100) NOT NULL, "installed_on" TIMESTAMP NOT NULL DEFAULT now(), "execution_time" INTEGER NOT NULL, "success" BOOLEAN NOT NULL
) WITH (fillfactor = 90);
ALTER TABLE "shop"."flyway_schema_history" ADD CONSTRAINT "flyway_schema_history_pk" PRIMARY KEY ("installed_rank");
CREATE INDEX "flyway_schema_history_s_idx" ON "shop"."flyway_schema_history" ("success");
COMMIT;
SELECT COUNT(*) FROM pg_namespace WHERE nspname = 'shop';
BEGIN;
LOCK TABLE shop.flyway_schema_history IN SHARE UPDATE EXCLUSIVE MODE;
SELECT "installed_rank", "version", "checksum", "success" FROM "shop"."flyway_schema_history" WHERE "installed_rank" > 0 ORDER BY "installed_rank";
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE DOMAIN amount AS numeric(10, 2) CHECK (value >= 0);
CREATE SEQUENCE order_number START 1000;
CREATE TABLE orders (id bigint PRIMARY KEY DEFAULT nextval('order_number'), state state NOT NULL DEFAULT 'new', total amount, placed date NOT NULL) ;
CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE events_old (at date NOT NULL, what text);
INSERT INTO events_old VALUES ('2020-02-02', 'old');
ALTER TABLE events ATTACH PARTITION events_old FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
INSERT INTO orders (total, placed) VALUES (1.5, '2026-01-01'), (2, '2026-01-02');
INSERT INTO events SELECT placed, 'order ' || id FROM orders;
CREATE VIEW open_orders AS SELECT id, total FROM orders WHERE state = 'new';
CREATE TABLE totals AS SELECT placed, sum(total::numeric) AS total FROM orders GROUP BY placed;
CREATE OR REPLACE VIEW open_orders AS SELECT id, total, placed FROM orders WHERE state = 'new';
DROP TABLE IF EXISTS nothing_of_that_name;
INSERT INTO "shop"."flyway_schema_history" ("installed_rank", "version", "description", "type", "script", "checksum", "installed_by", "execution_time", "success") VALUES (1, '1', 'orders', 'SQL', 'V1__orders.sql', 12345, 'ada', 12, true);
COMMIT;
ALTER TYPE shop.state ADD VALUE IF NOT EXISTS 'sent' AFTER 'paid';
INSERT INTO "shop"."flyway_schema_history" ("installed_rank", "version", "description", "type", "script", "checksum", "installed_by", "execution_time", "success") VALUES (2, '2', 'sent', 'SQL', 'V2__sent.sql', 54321, 'ada', 1, true);
