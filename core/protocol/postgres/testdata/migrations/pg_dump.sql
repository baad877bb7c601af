--
-- In the manner of pg_dump --no-owner --no-privileges, for psql --single-transaction
--

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

CREATE TYPE public.level AS ENUM (
    'low',
    'high'
);

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE public.teams (
    id integer NOT NULL,
    name text NOT NULL,
    level public.level DEFAULT 'low'::public.level,
    CONSTRAINT teams_name_check CHECK ((name <> ''::text))
);

COMMENT ON TABLE public.teams IS 'who works together';

CREATE SEQUENCE public.teams_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.teams_id_seq OWNED BY public.teams.id;

CREATE TABLE public.members (
    id bigint NOT NULL,
    team integer,
    joined timestamp with time zone DEFAULT now(),
    tags text[] DEFAULT '{}'::text[],
    short text GENERATED ALWAYS AS (("substring"((id)::text, 1, 2))) STORED
);

ALTER TABLE public.members ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.members_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE VIEW public.high_teams AS
 SELECT id,
    name
   FROM public.teams
  WHERE (level = 'high'::public.level);

ALTER TABLE ONLY public.teams ALTER COLUMN id SET DEFAULT nextval('public.teams_id_seq'::regclass);

COPY public.members (id, team, joined, tags) FROM stdin;
1	1	2026-01-01 00:00:00+00	{a,b}
2	\N	2026-01-02 00:00:00+00	{}
\.

COPY public.teams (id, name, level) FROM stdin;
1	alpha	high
2	beta	low
\.

SELECT pg_catalog.setval('public.teams_id_seq', 2, true);

SELECT pg_catalog.setval('public.members_id_seq', 2, true);

ALTER TABLE ONLY public.members
    ADD CONSTRAINT members_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.teams
    ADD CONSTRAINT teams_pkey PRIMARY KEY (id);

CREATE INDEX members_joined ON public.members USING btree (joined DESC);

CREATE UNIQUE INDEX teams_name ON public.teams USING btree (lower(name)) WHERE (level = 'high'::public.level);

ALTER TABLE ONLY public.members
    ADD CONSTRAINT members_team_fkey FOREIGN KEY (team) REFERENCES public.teams(id) ON DELETE SET NULL;
