package postgres

import (
	"testing"

	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestDirections: COPY's options, RETURNING, MERGE, EXPLAIN, JSON, what a session
// makes for itself, under every kind of task.
func TestDirections(t *testing.T) {
	for name, c := range map[string]struct {
		task  policy.Task
		probe bool
	}{"errors cut": {}, "errors shown": {policy.Task{ShowErrors: true, Oracle: "accept"}, false}, "blind": {policy.Task{ShowErrors: true, Blind: true}, false}, "probe": {policy.Task{ShowErrors: true}, true}} {
		t.Run(name, func(t *testing.T) {
			c.task.Masks, c.task.Rules = doubledMasks(), doubledRules()
			doubled(t, c.task, "app", c.probe).alike(t, directions, 25)
		})
	}
}

var directions = []string{
	`Q copy notes from stdin
	d 1\t1\tx\ty
	c
	Q copy notes from stdin with (on_error ignore, log_verbosity verbose)
	d aa\t1\tx\ty
	c
	Q copy notes from stdin with (on_error ignore, log_verbosity verbose, reject_limit 1)
	d aa\t1\tx\ty
	d bb\t1\tx\ty
	c
	Q copy notes from stdin with (format csv, force_null *)
	d 9,1,"",
	c
	Q copy notes from stdin with (format csv, force_not_null *)
	d 9,1,"",
	c
	Q copy notes from stdin with (default '\D')
	d \D\t1\tx\ty
	c
	Q copy notes (id, person) from stdin where person > 5
	d 9\t1
	c
	Q copy strict (id, a) from stdin
	d 70\t2000
	c
	Q copy strict (id, a) from stdin with (on_error ignore, log_verbosity verbose)
	d 70\tzz
	d 1\t3
	c
	Q copy gen (id, a) from stdin
	d 1\t3
	c
	Q copy people (id, name) from stdin
	d 1\t3
	c
	Q copy people from stdin
	d 1\t3
	c
	Q copy people (id, name) from stdin with (format csv, header match)
	d id,secret
	c
	Q copy notes to stdout with (format csv, header, force_quote *)
	Q copy (select id, ssn, name from people order by id) to stdout with (format csv, header, force_quote *, null 'N')
	Q copy (select id, ssn from people order by id) to stdout (format json)
	Q copy people (id, ssn) to stdout with (format csv, force_quote (ssn))
	Q copy people (id, ssn) to stdout with (encoding 'latin1')
	Q copy people (id, ssn) to stdout with (freeze)
	Q copy gen (id, g) to stdout
	Q copy gen (id, a) to stdout where a > 1`,
	`Q insert into strict (id, a) values (71, 20000)
	Q insert into strict (id, a) values (1, 2)
	Q insert into strict (id, a) values (72, null)
	Q update strict set a = null where id = 1
	Q update strict set a = 2000 where id = 1
	Q update strict set a = a where id = 1 returning old.a, new.a
	Q update strict set a = a where id = 1 returning old.secret
	Q update strict set a = a where id = 1 returning old.ssn, new.ssn
	Q update strict set a = a where id = 1 returning old, new
	Q update strict set a = a where id = 1 returning old.*
	Q update people set name = name where id = 1 returning old.ssn, new.ssn, ssn
	Q update people set name = name where id = 1 returning with (old as o, new as n) o.ssn, n.secret
	Q update people set name = name where id = 1 returning with (old as o, new as n) o.ssn, n.ssn as name
	Q update people set name = name where id = 1 returning old.ssn is null
	Q update people set name = name where id = 1 returning old is null, (new).name
	Q update people set name = name where id = 1 returning to_json(old)
	Q update people set name = name where id = 1 returning (select old.ssn)
	Q update people set name = name where id = 1 returning old.name || new.name
	Q insert into people (id, name) values (1, 'x') on conflict (id) do update set name = people.name returning old.ssn, new.name
	Q insert into people (id, name) values (1, 'x') on conflict (id) do update set name = people.secret returning name
	Q insert into people (id, name) values (1, 'x') on conflict (id) do update set name = excluded.name where people.ssn is null
	Q insert into people (id, name) values (1, 'x') on conflict do nothing
	Q insert into people (id, name) values (1, 'x') on conflict (ssn) do nothing
	Q insert into people (id, name, ssn) values (8, 'x', 'zq-1-zq') on conflict do nothing
	Q delete from gen where id = 2 returning old.ssn, new.ssn`,
	`Q merge into notes n using people p on n.id = p.id when matched then update set body = p.name returning merge_action(), n.id, p.ssn
	Q merge into notes n using people p on n.id = p.id when matched then update set body = p.ssn returning merge_action()
	Q merge into notes n using people p on n.id = p.id and p.ssn is null when matched then do nothing
	Q merge into notes n using people p on n.id = p.id when matched and p.secret is null then update set body = 'x'
	Q merge into notes n using people p on n.id = p.id when not matched by source then update set body = 'x' returning merge_action(), n.*
	Q merge into notes n using people p on n.id = p.id when matched then update set body = 'x' returning *
	Q merge into notes n using people p on n.id = p.id when matched then update set body = 'x' returning p
	Q merge into notes n using people p on n.id = p.id when matched then update set body = 'x' returning old.body, new.body, merge_action() || p.ssn
	Q with m as (merge into notes n using people p on n.id = p.id when matched then update set body = p.name returning p.ssn as s) select s from m order by 1
	Q with m as (merge into notes n using people p on n.id = p.id when matched then update set body = p.name returning p.ssn as s) select s, 1 from m
	Q merge into people p using notes n on n.id = p.id when not matched then insert (id, name) values (77, 'x') returning p.ssn
	Q merge into people p using (values (1)) v (i) on p.id = v.i when matched then update set name = name returning p.ssn, old.ssn, new.secret
	Q copy (merge into notes n using people p on n.id = p.id when matched then update set body = p.name returning p.ssn) to stdout`,
	`Q explain (serialize, analyze, timing off, summary off, costs off) select ssn, name from people
	Q explain (serialize text, analyze, timing off, summary off, costs off, buffers off) select ssn, name from people
	Q explain (serialize binary, analyze, timing off, summary off, costs off, buffers off) select m from twice
	Q explain (serialize text, analyze, timing off, summary off, costs off, buffers off, format json) select m from twice
	Q explain (generic_plan) select ssn from people where id = $1
	Q explain (generic_plan) select id from people where name = $1
	Q explain (settings, verbose) select ssn from people
	Q explain (settings, verbose) select id, name from people where id = 1
	Q explain (buffers, analyze, timing off, summary off, costs off) select id from twice
	Q explain (buffers, analyze, timing off, summary off, costs off) select ssn from people where name = 'Ada'
	Q explain (verbose, costs off) select g from gen
	Q explain (verbose, costs off) insert into gen (id, a) values (88, 1)
	Q explain (wal, analyze, timing off, summary off, costs off) update people set name = name where id = 1
	Q explain (wal, analyze, timing off, summary off, costs off) update gen set a = a where id = 1
	Q explain (wal, analyze, timing off, summary off, costs off) select id from people
	Q explain (format xml) select ssn from people
	Q explain select m from twice
	Q explain select id from twice order by id
	Q explain (analyze, timing off, summary off) select id, m from twice order by id
	Q explain (analyze, timing off, summary off, costs off) select id, m from twice order by id limit 2
	Q explain (analyze, timing off, summary off, costs off) with x as materialized (select id, m from twice) select id from x
	Q explain (analyze, timing off, summary off, costs off) select a.id, b.m from people a join twice b on a.id = b.id`,
	`Q listen news
	Q notify news, 'x'
	Q select pg_notify('news', 'x')
	Q select pg_notify('news', ssn) from people
	Q listen zqother
	Q unlisten *
	Q select pg_listening_channels()
	Q select current_setting('application_name')
	Q select current_setting(name) from people where id = 1
	Q set application_name to default
	Q select pg_notification_queue_usage()
	Q show all
	Q show search_path
	Q show lc_messages`,
	`Q select j.* from people p, json_table(jsonb_build_object('a', p.name), '$' columns (x text path '$.a')) j order by 1
	Q select j.* from people p, json_table(jsonb_build_object('a', p.ssn), '$' columns (x text path '$.a')) j
	Q select p.ssn, j.x from people p, json_table('[1]'::jsonb, '$[*]' columns (x int path '$')) j order by p.id
	Q select j.* from people p, json_table('[1]'::jsonb, '$[*]' passing p.ssn as s columns (x text path '$s')) j
	Q select j.* from people p, json_table('{"a":1}'::jsonb, '$' columns (x text path '$.b' default p.ssn on empty)) j
	Q select j.* from people p, json_table('{"a":1}'::jsonb, '$' columns (x int path '$.a' default 3 on empty, e int exists path '$.b', nested path '$.a' columns (y int path '$'))) j
	Q select j.* from json_table('{"a":"zz"}'::jsonb, '$' columns (x int path '$.a' error on error)) j
	Q select json_value('{"a":1}', '$.b' default ssn on empty) from people
	Q select json_query('{"a":1}', '$.b' default (select secret from people limit 1) on empty)
	Q select json_exists('{"a":1}'::jsonb, '$.a ? (@ == $x)' passing ssn as x) from people
	Q select json_object('k': ssn) from people
	Q select json_object('k' value p) from people p
	Q select json_array(select ssn from people)
	Q select json_array(select name from people order by id)
	Q select json_scalar(ssn) from people
	Q select json(ssn) from people
	Q select json_arrayagg(secret) from people
	Q select ssn is json from people
	Q select json_objectagg(name: ssn) from people
	Q select json_serialize(json_object('k': name)) from people order by id
	Q select any_value(ssn) from people
	Q select any_value(name) from people where id = 1
	Q select greatest(ssn, 'x') from people
	Q select xmltable.* from people, xmltable('/a' passing ('<a>' || ssn || '</a>')::xml columns x text path '.')
	Q select system_user, session_user
	Q select random(1, 2) is null, array_shuffle(array[1]), array_sample(array[1], 1)
	Q select array_sort(array[3, 1]), reverse('abc'::bytea), casefold('A')
	Q select pg_column_size(ssn) from people
	Q select pg_column_size(p) from people p
	Q select pg_column_toast_chunk_id(ssn) from people
	Q select ctid, xmin from people
	Q select tableoid::regclass, id from people where id = 1
	Q select * from people tablesample system (100)
	Q select id, ssn from people tablesample bernoulli (100) repeatable (1) order by id
	Q select id from people order by id fetch first 1 rows with ties
	Q select id from people order by ssn fetch first 1 rows with ties
	Q select * from pg_stat_user_tables
	Q select pg_relation_size('people')
	Q select pg_indexes_size('people'), pg_total_relation_size('hidden.vault')
	Q select has_table_privilege('hidden.vault', 'select')
	Q select 'hidden.vault'::regclass
	Q select to_regclass('hidden.vault')
	Q select reltuples, relpages from pg_class where relname = 'people'
	Q select count(*) from hidden.vault`,
	`Q create temp table mine as select id, ssn from people
	Q create temp table mine as select id, name from people
	Q create temp table refs (id int references people)
	Q create temp table refs (id int references mine)
	Q create temp table gens (id int, name text, v text generated always as (name || 'x') stored)
	Q create temp table virt (id int, name text, v text generated always as (name || 'x') virtual)
	Q insert into virt (id, name) select id, name from people
	Q select * from virt order by id
	Q insert into virt (id, name) select id, ssn from people
	Q create temp table ranges (id int, r int4range, primary key (id, r without overlaps))
	Q create temp table idn (id int generated always as identity, v text)
	Q insert into idn (v) select name from people order by id returning id
	Q insert into idn overriding system value values (1, 'x')
	Q create temp table ne (id int, check (id > 5) not enforced)
	Q insert into ne values (1)
	Q alter table ne alter constraint ne_id_check enforced
	Q create temp table likes (like people)
	Q create temp table likes2 (like people including all)
	Q create temp table inh () inherits (people)
	Q create temp table part partition of people for values in (1)
	Q insert into likes select * from people
	Q insert into likes select id, name, null, null, grp from people
	Q select * from likes order by id
	Q begin; declare c cursor with hold for select p.ssn, l.name from people p join likes l using (id) order by p.id; commit
	Q fetch 2 from c
	Q create temp table l3 as select * from likes; drop table likes cascade; fetch 1 from c
	Q update mine set name = p.ssn from people p where p.id = mine.id
	Q update mine set name = p.name from people p where p.id = mine.id returning p.ssn, mine.name
	Q merge into mine m using people p on m.id = p.id when matched then update set name = p.ssn
	Q delete from mine using people p where p.ssn is null
	Q copy mine to stdout
	Q create temp view tv as select name, id from people
	Q create temp view tv2 as select * from tv
	Q select * from tv2 order by id
	Q create temp sequence sq owned by mine.id
	Q select nextval('sq'), lastval()
	Q create unique index on mine (name)
	Q alter table mine add column p people
	Q update mine set p = q from people q where q.id = mine.id
	Q select id, (p).ssn from mine
	Q alter table mine add constraint u unique (id)
	Q insert into mine (id, name) select id, name from people on conflict (id) do update set name = excluded.name returning *`,
	`P - select id, ssn from people where id = $1
	B - -|1
	E -
	B - -|zq
	E -
	S
	P - select id from people where ssn = $1
	B - -|zq-1-zq
	E -
	S
	P - select $1::text from people where id = 1
	B - -|abc
	E -
	S
	P - select coalesce($1, ssn) from people
	B - -|abc
	E -
	S
	P - insert into strict (id, a) values ($1, $2)
	B - -|1|2
	E -
	S
	P - update strict set a = $1 where id = 1 returning ssn, a
	B - -|3
	E -
	B - -|3000
	E -
	S`,
	`Q begin; set constraints all deferred; insert into notes values (50, 9999, 'x', 'x'); commit
	Q begin; insert into notes values (50, 1, 'x', 'x'); savepoint s; update notes set id = 1 where id = 50; rollback to s; select * from notes where id = 50; rollback
	Q delete from notes where id = 1
	Q update notes set id = 100 where id = 1
	Q update people set id = 100 where id = 1
	Q insert into twice (id, n) values (1, 1)
	Q insert into people (id, name) values (1, 'x')
	Q insert into people (id, name) values (101, null) returning ssn, name
	Q insert into people (id, name) values (102, repeat('y', 1000)) returning id
	Q select * from notes for update
	Q select id from people for key share
	Q insert into names values (200, 'q') returning id, name
	Q update names set name = 'x'
	Q insert into people (id, name) values (103, (select secret from people where id = 1))
	Q insert into people (id, name) select id + 300, ssn from people
	Q insert into people (id, name, ssn) select id + 300, name, ssn from people
	Q select 1/(id-1) from people order by id
	Q select name::int from people where id = 1
	Q select (name || id)::date from people where id = 1
	Q select id from people where name::int = 1
	Q select id from people where case when ssn is null then 1/0 else 1 end = 1`,
}
