package postgres

import (
	"testing"

	"github.com/taskgate/taskgate/plugins/tasks/policy"
)

// TestMeaning: names that mean something else once their turn comes: cursors, portals,
// statements, views, temporary tables and paths, in pipelines, in what is rolled back
// and in what is skipped after an error.
func TestMeaning(t *testing.T) {
	task := policy.Task{ShowErrors: true, Masks: doubledMasks(), Settings: []string{"search_path", "application_name", "datestyle", "standard_conforming_strings", "row_security"}, Rules: append(doubledRules(),
		ddl("public.*", tableVerbs...), all("select", "public.pets"), all("truncate", "public.notes"), all("select", "public.v1", "public.v2"))}
	doubled(t, task, "owner", false).alike(t, meanings, 200)
}

var meanings = []string{
	// cursors
	`Q begin; declare c cursor for select name from people order by id; savepoint s; close c; declare c cursor for select ssn from people order by id; rollback to s; fetch 1 from c
	Q rollback`,
	`Q begin
	Q declare c cursor for select ssn from people order by id
	Q savepoint s
	Q close c
	Q declare c cursor for select name from people order by id
	Q rollback to s
	Q fetch 1 from c
	Q rollback`,
	`Q begin
	Q declare c cursor for select ssn from people order by id
	Q declare c cursor for select name from people order by id
	Q fetch 1 from c
	Q rollback`,
	`Q begin
	Q declare c cursor with hold for select ssn, name from people order by id
	Q commit
	Q begin
	Q close c
	Q declare c cursor for select name, name from people order by id
	Q rollback
	Q fetch 1 from c
	Q close all`,
	`Q begin
	Q declare c cursor with hold for select ssn, name from people order by id
	Q commit
	Q fetch 1 from c
	Q begin; close c; declare c cursor with hold for select name, name from people order by id; select 1/0
	Q rollback
	Q fetch 1 from c
	Q discard all
	Q fetch 1 from c`,
	`X begin
	X declare c cursor for select ssn from people order by id
	X close c
	X select 1/0
	X declare c cursor for select name from people
	S
	X fetch 1 from c
	S
	Q rollback`,
	`X begin
	X declare c cursor for select ssn from people order by id
	B c -
	S
	Q rollback`,
	`Q begin
	P - select ssn from people order by id
	B c -
	X close c
	X declare c cursor for select name from people order by id
	E c 1
	S
	Q rollback`,
	`Q begin
	P a select name from people order by id
	P b select ssn from people order by id
	B c a
	C P c
	B c b
	E c 1
	X fetch 1 from c
	C P c
	B c a
	E c 1
	S
	Q rollback`,
	`Q begin
	P a select name from people order by id
	P b select ssn from people order by id
	B c b
	S
	B c a
	E c 1
	S
	X fetch 1 from c
	S
	Q rollback`,
	`Q begin
	P a select name from people order by id
	P b select ssn from people order by id
	B c b
	H
	E c 1
	Q savepoint s
	Q close c
	B c a
	E c 1
	Q rollback to s
	E c 1
	S
	Q rollback`,
	// prepared
	`P p select ssn from people order by id
	S
	---
	X select 1/0
	C S p
	P p select name from people order by id
	S
	B - p
	E -
	S`,
	`P p select name from people order by id
	S
	C S p
	P p select ssn from people order by id
	X select 1/0
	S
	B - p
	E -
	S`,
	`P p select name from people order by id
	S
	C S p
	P p select ssn from people order by id
	P p select name from people order by id
	S
	B - p
	E -
	S`,
	`Q prepare p as select name from people order by id
	Q deallocate p; prepare p as select ssn from people order by id; select 1/0
	Q execute p
	B - p
	E -
	S`,
	`Q prepare p as select ssn from people order by id
	Q begin; deallocate p; prepare p as select name from people order by id; rollback
	Q execute p`,
	`Q prepare p as select ssn from people order by id
	Q begin; deallocate all; select 1/0; prepare p as select name from people order by id
	Q rollback
	Q execute p`,
	`P p select ssn from people order by id
	S
	X discard all
	P p select name from people order by id
	B - p
	E -
	S`,
	`X begin
	X discard all
	P p select name from people order by id
	S
	Q rollback
	B - p
	E -
	S`,
	`P p select ssn from people order by id
	X deallocate all
	P p select name from people order by id
	X select 1/0
	S
	B - p
	E -
	S`,
	`P - select ssn from people order by id
	S
	Q select 1
	B - -
	E -
	S`,
	`P - select ssn from people order by id
	P bad select nothing from nowhere
	S
	B - -
	E -
	S`,
	`P - select ssn from people order by id
	P - selec
	S
	B - -
	E -
	S`,
	`P p select name from people where id = $1
	B a p|1
	C S p
	P p select ssn from people where id = $1
	B b p|1
	E a
	E b
	E a
	S`,
	// views
	`Q create view v1 as select id, name as v from people
	P p select v from v1 order by id
	S
	Q begin; drop view v1; create view v1 as select id, ssn as v from people
	B - p
	E -
	S
	Q rollback
	B - p
	E -
	S`,
	`Q create view v1 as select id, name as v from people
	P p select v from v1 order by id
	B - p
	E -
	X create or replace view v1 as select id, grp::text as v from people
	B - p
	E -
	S
	Q drop view v1`,
	`Q begin
	X create table v1 as select id, name as v from people
	P p select v from v1 order by id
	B - p
	E -
	X drop table v1
	X create view v1 as select id, secret as v from people
	S
	B - p
	E -
	S
	Q rollback`,
	`Q begin
	Q savepoint s
	Q create temp table t1 (id int, v text)
	Q prepare p as select v from t1
	Q rollback to s
	Q create temp view t1 as select id, ssn as v from people
	Q execute p
	Q rollback
	Q execute p`,
	`Q begin; savepoint s; create temp table t1 (id int, v text); prepare p as select v from t1; rollback to s; create temp view t1 as select id, name as v from people; execute p
	Q rollback`,
	`Q create temp table t1 (id int, v text)
	P p insert into t1 select id, v from t1
	P q select * from t1
	S
	Q begin; drop table t1; savepoint s; create temp table t1 (id int, v text, w text); rollback to s
	B - q
	E -
	S
	Q rollback
	B - q
	E -
	S`,
	`Q create temp table t1 as select id, name as v from people
	Q alter table t1 rename to t2
	Q begin; alter table t2 rename to t3; rollback; select * from t3
	Q select * from t2 order by id
	Q begin; savepoint s; alter table t2 rename column v to w; rollback to s; select w from t2
	Q rollback`,
	// hiding hidden's names
	`Q set search_path = hidden, public
	Q select * from vault
	Q select * from seen_people`,
	`Q begin; set local search_path = hidden; select count(*) from vault
	Q rollback`,
	`X begin
	X savepoint s
	X set search_path = public
	X rollback to s
	X select name from people order by id
	S
	Q rollback`,
	`Q create schema sx
	Q create temp table t1 (id int)
	Q set search_path = pg_temp, public
	X begin
	X set search_path = public, hidden
	X select 1/0
	X select count(*) from vault
	S
	Q select count(*) from vault
	Q rollback
	Q select count(*) from vault`,
	`P p select count(*) from vault
	S
	Q set search_path = hidden
	P p select count(*) from vault
	S
	B - p
	E -
	S`,
	`Q create temp table vault (id int)
	Q create temp table seen_people (name text)
	Q select * from vault`,
	`Q create table public.vault (id int)
	P p select count(*) from vault
	S
	Q set search_path = hidden, public
	B - p
	E -
	S
	Q reset search_path
	Q drop table public.vault`,
	`Q create table public.vault (id int)
	P p select count(*) from vault
	S
	X begin
	X set search_path = hidden, public
	B - p
	E -
	S
	Q rollback
	Q drop table public.vault`,
	`Q prepare p as select count(*) from people
	Q begin; set local search_path = hidden, public; execute p; rollback`,
	// strings
	`Q set standard_conforming_strings = off
	Q select 'a\' || ssn || ''b' from people
	Q set escape_string_warning = off`,
	`Q begin; set local standard_conforming_strings = off; select '\'', ssn, '\'' from people; rollback`,
	`X set standard_conforming_strings = off
	X select 'x\', ssn, ''' from people
	S`,
	`Q set role app
	Q set session authorization app
	Q set row_security = off
	Q set local row_security = off
	Q set backslash_quote = on
	Q set client_encoding = sjis
	Q set default_transaction_isolation = 'serializable'
	Q set transform_null_equals = on
	Q set constraints all deferred
	Q set session characteristics as transaction read only
	Q set datestyle = 'german'
	Q set application_name = 'x'
	Q reset all
	Q set lc_messages = 'C'
	Q set debug_print_parse = on
	Q set client_min_messages = debug5
	Q set log_min_messages = debug5
	Q set plan_cache_mode = force_generic_plan
	Q set enable_seqscan = off
	Q select set_config('search_path', ssn, false) from people
	Q select set_config('application_name', ssn, false) from people
	Q select set_config('application_name', name, false) from people where id = 1`,
	// errors half-way
	`X insert into notes values (10, 1, 'x', 'x')
	X insert into notes values (10, 1, 'x', 'x')
	X select ssn from people
	S
	Q select count(*) from notes`,
	`X select id from people order by ssn
	X select name from people order by id
	S
	Q select 1; select id from people order by ssn; select 2
	Q select 1; select 1/0; select ssn from people`,
	`Q begin; insert into notes values (10, 1, 'x', 'x'); commit; insert into notes values (10, 1, 'x', 'x')
	Q delete from notes where id = 10`,
	`Q insert into notes values (10, 1, 'x', 'x'); begin; savepoint s; rollback to s; rollback; select count(*) from notes
	Q delete from notes where id = 10`,
	`Q begin; select 1; commit and chain; select ssn from people; rollback and chain; select name from people where id = 1; end
	Q commit`,
	// explain, plan caches
	`P p select ssn from people where id = $1
	B - p|1
	D P -
	E - 1
	E - 1
	S
	Q explain (costs off) execute p(1)
	Q execute p(1)`,
	`Q create temp table t1 as execute p
	Q prepare p as select name from people
	Q create temp table t1 as execute p
	Q deallocate p
	Q prepare p as select ssn from people
	Q create temp table t2 as execute p
	Q select * from t1 order by 1`,
	`Q begin; prepare p as select name as v from people; deallocate p; prepare p as select ssn as v from people; create temp table t2 as execute p; select * from t2
	Q rollback`,
	`Q begin
	X create temp table t1 (v text) on commit drop
	X insert into t1 select name from people
	X rollback
	X create temp view t1 as select ssn as v from people
	X select v from t1 order by v
	S`,
	`Q create temp view t1 as select ssn as v from people
	Q create temp table t1 (v text)
	Q select v from t1 order by 1
	Q drop view t1
	Q begin; create temp table t1 (v text); create temp view t2 as select v from t1; alter table t1 rename to t3; create temp view t1 as select ssn as v from people; select v from t2 order by 1
	Q rollback`,
	// cursors with hold over masked, current of
	`Q begin
	Q declare c cursor for select ssn, id from people order by id for update
	Q fetch 1 from c
	Q update people set name = ssn where current of c
	Q update people set name = name where current of c
	Q delete from people where current of c
	Q rollback`,
	`Q begin
	Q declare c cursor for select id from notes order by id
	Q fetch 1 from c
	Q update notes set body = 'z' where current of c returning body
	Q savepoint s
	Q close c
	Q declare c cursor for select id from people order by id
	Q update notes set body = 'z' where current of c returning body
	Q rollback`,
	`Q begin
	P a select ssn from people order by id
	B c a
	E c 1
	Q move 1 in c
	Q fetch relative 1 from c
	Q fetch absolute -1 from c
	Q fetch all from c
	Q rollback`,
	`Q copy (select ssn, name from people order by id) to stdout; select name from people where id = 1; copy people (id, ssn) to stdout
	Q copy people to stdout
	Q copy (select secret from people) to stdout
	X copy (select ssn, name from people order by id) to stdout
	X select name from people where id = 1
	S`,
}
