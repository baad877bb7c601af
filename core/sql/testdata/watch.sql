-- The oracle: every row that is changed is said, on every table that holds rows, and every command on a table, whether it changes any.
CREATE FUNCTION watched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM public.said(lower(TG_OP) || ' ' || TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME); RETURN NULL; END $$;
DO $$ DECLARE t text; BEGIN
    FOR t IN SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE 'CREATE TRIGGER aa_begun BEFORE INSERT OR UPDATE OR DELETE ON ' || t || ' FOR EACH STATEMENT EXECUTE FUNCTION public.watched()';
    END LOOP;
    FOR t IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE 'CREATE TRIGGER zz_watch AFTER INSERT OR UPDATE OR DELETE ON ' || t || ' FOR EACH ROW EXECUTE FUNCTION public.watched()';
        EXECUTE 'CREATE TRIGGER zz_emptied AFTER TRUNCATE ON ' || t || ' FOR EACH STATEMENT EXECUTE FUNCTION public.watched()';
    END LOOP; END $$;
