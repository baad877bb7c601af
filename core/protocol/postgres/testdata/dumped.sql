-- What pg_dump has to find: public can be made anew by a task with ddl rules, kept
-- has what no task may make.
CREATE TYPE public.level AS ENUM ('low', 'high');
CREATE DOMAIN public.short AS text CONSTRAINT short_check CHECK (length(VALUE) < 9);
CREATE TABLE public.teams (id serial PRIMARY KEY, name text NOT NULL UNIQUE, level public.level DEFAULT 'low', code public.short, CONSTRAINT named CHECK (name <> 'O''Hara'));
COMMENT ON TABLE public.teams IS 'who works together';
COMMENT ON COLUMN public.teams.code IS 'at most eight';
CREATE TABLE public.people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, team int REFERENCES public.teams ON DELETE SET NULL, name text, ssn text, joined timestamptz DEFAULT '2026-01-01 00:00:00+00',
    initials text GENERATED ALWAYS AS (substr(name, 1, 2)) STORED, tags text[] DEFAULT '{a,b}') WITH (fillfactor = 70);
CREATE INDEX people_lower ON public.people (lower(name)) WHERE team > 0;
CREATE INDEX people_joined ON public.people USING btree (joined DESC NULLS LAST) INCLUDE (id) WITH (fillfactor = 80);
CREATE VIEW public.high AS SELECT id, name FROM public.teams WHERE level = 'high';
CREATE MATERIALIZED VIEW public.counted AS SELECT team, count(*) AS n FROM public.people GROUP BY team;
CREATE SEQUENCE public.alone START 7 INCREMENT 3 CYCLE MAXVALUE 100;
CREATE TABLE public.logs (at date NOT NULL, kind text NOT NULL, what text, PRIMARY KEY (at, kind)) PARTITION BY RANGE (at);
CREATE TABLE public.logs_2026 PARTITION OF public.logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE public.logs_rest PARTITION OF public.logs DEFAULT;
CREATE FUNCTION public.twice(n int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 2 * n $$;
INSERT INTO public.teams (name, level, code) VALUES ('red', 'high', 'r'), ('blue', NULL, E'b\tb'), ('a\b', 'low', NULL);
INSERT INTO public.people (team, name, ssn) SELECT 1 + i % 3, 'name ' || i, 'SSN-' || lpad(i::text, 6, '0') FROM generate_series(1, 300) i;
INSERT INTO public.logs VALUES ('2026-05-05', 'x', 'in'), ('2030-05-05', 'y', 'out');
REFRESH MATERIALIZED VIEW public.counted;
SELECT nextval('public.alone'), nextval('public.alone');
CREATE SCHEMA kept;
CREATE TABLE kept.rows (id int PRIMARY KEY, note text);
INSERT INTO kept.rows VALUES (1, 'one');
CREATE FUNCTION kept.noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'noted'; RETURN NEW; END $$;
CREATE TRIGGER noted BEFORE UPDATE OF note ON kept.rows FOR EACH ROW WHEN (OLD.note IS DISTINCT FROM 'kept') EXECUTE FUNCTION kept.noted('an argument');
CREATE RULE quiet AS ON DELETE TO kept.rows DO INSTEAD NOTHING;
CREATE POLICY mine ON kept.rows TO app USING (id > 0) WITH CHECK (note <> 'yours');
CREATE STATISTICS kept.together ON id, note FROM kept.rows;
CREATE AGGREGATE kept.total (int) (sfunc = int4pl, stype = int, initcond = '7');
CREATE TEXT SEARCH DICTIONARY kept.plain (TEMPLATE = simple, stopwords = 'english');
CREATE OPERATOR kept.### (leftarg = int, rightarg = int, function = int4pl);
CREATE COLLATION kept.plain FROM "C";
