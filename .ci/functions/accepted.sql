-- The functions that any text may call, for core/sql/accepted.txt. Run on a fresh cluster of every
-- major, and joined by OID and name (an OID that is free again is given to another function):
--   psql -XAt -F ' ' -f .ci/functions/accepted.sql
-- Immutable or stable functions of pg_catalog, less those that read tables, files, other sessions or the server's
-- state, run text, or take the server's internal types; and the volatile ones named here, which write nothing. So are
-- those that tell of this session alone, and what reads a literal of a type of the server's own that names nothing.
SELECT p.oid, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')'
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384
  AND p.prokind IN ('f', 'a', 'w')
  AND (p.provolatile IN ('i', 's')
       OR p.proname IN ('random', 'clock_timestamp', 'timeofday', 'gen_random_uuid', 'uuidv4', 'uuidv7'))
  AND p.prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype, 'language_handler'::regtype,
                           'fdw_handler'::regtype, 'index_am_handler'::regtype, 'table_am_handler'::regtype, 'tsm_handler'::regtype)
  AND (p.proname IN ('inet_client_addr', 'inet_client_port', 'inet_server_addr', 'inet_server_port', 'session_user', 'txid_current_if_assigned',
                     'pg_current_xact_id_if_assigned', 'pg_trigger_depth', 'get_current_ts_config')
       OR p.pronargs = 1 AND p.proargtypes[0] = 'cstring'::regtype
          AND EXISTS (SELECT FROM pg_type t WHERE t.typinput = p.oid AND t.oid = p.prorettype AND t.typtype = 'b' AND t.typname !~ '^(reg|acl|pg_node_tree|pg_ndistinct|pg_dep|pg_mcv|pg_brin)')
       OR NOT EXISTS (SELECT FROM unnest(p.proargtypes) t WHERE t = ANY (ARRAY['internal'::regtype, 'cstring'::regtype]::oid[])
                  AND p.prokind = 'f')
          AND p.proname !~ '^(pg_|_pg_|lo_|binary_upgrade|has_|row_security|inet_(client|server)|txid_|currtid|to_reg|ts_stat|ts_debug|ts_parse|ts_token|ts_lexize|ts_rewrite|get_current_ts|dblink|xpath_table|shobj_description|obj_description|col_description|acl|makeaclitem|current_setting|set_config|current_schemas?$|session_user|system_user|query_to|cursor_to|table_to|schema_to|database_to|nextval|setval|currval|lastval|mxid_|suppress_|unique_key_|RI_|brin_|gin_clean|.*(in|out|recv|send)_?procedure|regclass$|regexp_internal|hash_?array_ext|be_lo|getdatabaseencoding|.*_?sel$|.*joinsel$|.*_handler$|.*_validator$|icu_|unicode_version|.*_support$|amvalidate|hashhandler|loread|lowrite|system$|bernoulli$)')
ORDER BY p.oid;
