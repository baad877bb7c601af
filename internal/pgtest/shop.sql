CREATE TYPE order_state AS ENUM ('new', 'paid', 'shipped', 'done');
CREATE TABLE customers (
    id serial PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, card text, national_id text,
    status text NOT NULL DEFAULT 'active', created date NOT NULL DEFAULT current_date);
CREATE TABLE orders (
    id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, status text NOT NULL DEFAULT 'new',
    total numeric(10, 2) NOT NULL, note text, created date NOT NULL DEFAULT current_date);
CREATE TABLE items (
    id serial PRIMARY KEY, order_id int NOT NULL REFERENCES orders ON DELETE CASCADE, sku text NOT NULL, quantity int NOT NULL, price numeric(10, 2) NOT NULL);
CREATE TABLE payments (
    id serial PRIMARY KEY, order_id int NOT NULL REFERENCES orders, amount numeric(10, 2) NOT NULL, card text NOT NULL, state text NOT NULL DEFAULT 'open');
CREATE VIEW open_orders AS SELECT o.id, o.status, c.name, c.email FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.status <> 'done';
CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE FUNCTION log_payment() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO events VALUES (current_date, 'payment ' || NEW.id); RETURN NEW; END $$;
CREATE TRIGGER payment_logged AFTER UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION log_payment();
CREATE FUNCTION purge() RETURNS int LANGUAGE sql AS $$ DELETE FROM items; SELECT 1 $$;

INSERT INTO customers (name, email, card, national_id)
SELECT 'Customer ' || i, 'c' || i || '@example.com', '4111-0000-0000-' || lpad(i::text, 4, '0'), 'NID-' || i FROM generate_series(1, 50) i;
INSERT INTO orders (customer_id, total, status) SELECT 1 + i % 50, i * 1.5, (ARRAY['new', 'paid', 'shipped'])[1 + i % 3] FROM generate_series(1, 200) i;
INSERT INTO items (order_id, sku, quantity, price) SELECT 1 + i % 200, 'SKU-' || i, 1 + i % 4, 9.99 FROM generate_series(1, 600) i;
INSERT INTO payments (order_id, amount, card) SELECT i, i * 1.5, '4111-0000-0000-' || lpad(i::text, 4, '0') FROM generate_series(1, 100) i;
