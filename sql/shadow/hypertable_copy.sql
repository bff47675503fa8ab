-- A history becomes a hypertable of TimescaleDB's while rows arrive: by a copy beside it, in pieces, which is compared with
-- it and takes its name in one short transaction. What comes meanwhile is caught by a trigger and follows. The copy's
-- state, pieces and comparison are those of partition_split.sql; `parent` is 0. See docs/decisions/0069.

-- What stands in the way of a hypertable, beside what stands in the way of native partitions too.
CREATE OR REPLACE FUNCTION pgtier.shadow_hypertable_findings(wanted text, by_column text)
  RETURNS TABLE (code text, object text, message text, cure text)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  h oid;
BEGIN
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  IF pgtier.shadow_timescale_schema() IS NULL THEN
    RETURN QUERY SELECT 'NoTimescaleDB', current_database()::text, 'this database has no extension timescaledb'::text,
                        'CREATE EXTENSION timescaledb (it asks for shared_preload_libraries), or take engine Native'::text;
  END IF;
  IF h IS NULL THEN RETURN; END IF;
  RETURN QUERY SELECT 'NotAHistory', wanted,
      format('rows of %s have no number (epoch, position) by which those that come late could be told from those that are copied', wanted),
      'take engine Native for it'::text
    WHERE (SELECT count(*) FROM pg_attribute WHERE attrelid = h AND attname IN ('epoch', 'position') AND NOT attisdropped) < 2;
  RETURN QUERY SELECT 'Published', p.pubname::text,
      format('publication %I has %s, whose rows would be in chunks that it does not have', p.pubname, wanted),
      format('take %s out of the publication, or take engine Native', wanted)
    FROM pg_publication_tables AS p WHERE p.schemaname = names.schema_name AND p.tablename = names.table_name;
  RETURN QUERY SELECT 'NoInherit', k.conname::text, format('constraint %I of %s is NO INHERIT, which hypertables don''t take', k.conname, wanted),
      format('ALTER TABLE %s DROP CONSTRAINT %I, and make it one that is inherited', h::regclass, k.conname)
    FROM pg_constraint AS k WHERE k.conrelid = h AND k.contype = 'c' AND k.connoinherit;
  RETURN QUERY SELECT 'TransitionTables', g.tgname::text,
      format('trigger %I of %s has transition tables, which hypertables don''t take', g.tgname, wanted), 'drop it, or take engine Native'::text
    FROM pg_trigger AS g WHERE g.tgrelid = h AND NOT g.tgisinternal AND (g.tgoldtable IS NOT NULL OR g.tgnewtable IS NOT NULL)
      AND (g.tgtype & 1) = 0;
  RETURN QUERY SELECT 'TriggerMode', g.tgname::text,
      format('trigger %I of %s is disabled, or fires always or on replicas only, which hypertables don''t take', g.tgname, wanted),
      format('ALTER TABLE %s ENABLE TRIGGER %I, or take engine Native', h::regclass, g.tgname)
    FROM pg_trigger AS g WHERE g.tgrelid = h AND NOT g.tgisinternal AND g.tgenabled <> 'O' AND g.tgname NOT LIKE 'pgtier\_split%';
END
$fn$;

-- What the copy was made by. With the number of columns that there ever were: after another one nothing is caught, though
-- it be dropped again.
CREATE OR REPLACE FUNCTION pgtier.shadow_hypertable_fingerprint(wanted oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT pgtier.shadow_fingerprint(wanted) || ' ' || relnatts FROM pg_class WHERE oid = wanted
$fn$;

-- Whether a copy that was begun may still become the table: nothing was changed in it, it is as it was, and what comes
-- is caught.
CREATE OR REPLACE FUNCTION pgtier.shadow_hypertable_agrees(s pgtier.shadow_splits) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT NOT s.dirty AND s.fingerprint = pgtier.shadow_hypertable_fingerprint(s.relation)
         AND pgtier.shadow_copy_is_ours(s.copy)
         AND (SELECT count(*) FROM pg_trigger WHERE tgrelid = s.relation AND tgenabled = 'A'
              AND tgname IN ('pgtier_split', 'pgtier_split_changed', 'pgtier_split_truncate')) = 3
$fn$;

-- First step: the empty copy, and the triggers. Writers are held off for some milliseconds: what was committed before is in
-- the first `blocks` and is to be copied, what comes later is in `late` too. Begins anew where the table was changed
-- since. Gives the table; NULL: it is none any more that could become one.
--
-- The trigger runs in the application's transactions, so it may not fail, and a subtransaction for each row would cost all
-- of them dear. It needs none: that columns go or change their type is refused as long as its WHEN names them, renamed
-- ones are written by their place, and with a new one, after which the copy is begun anew, it does nothing. NEW has the columns
-- of now, pg_class those of the transaction's snapshot: so has_column_privilege is asked too, NULL for a column that is not.
CREATE OR REPLACE FUNCTION pgtier.shadow_hypertable_begin(wanted text, by_column text, every interval) RETURNS oid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  s pgtier.shadow_splits;
  h oid;
  c pg_class;
  copy text;
  late text;
  catcher text;
  columns text;
BEGIN
  IF (SELECT k.state NOT IN ('plain', 'copying') FROM pgtier.shadow_partition_state(wanted, by_column) AS k) THEN RETURN NULL; END IF;
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = h;
  IF FOUND AND pgtier.shadow_hypertable_agrees(s) THEN RETURN h; END IF;
  -- Also triggers that a dump has brought.
  PERFORM pgtier.shadow_split_forget(h);
  PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', h::regclass);
  SELECT * INTO STRICT c FROM pg_class WHERE oid = h;
  copy := format('%I.%I', names.schema_name, pgtier.shadow_partition_name(names.schema_name, names.table_name, '_chunked'));
  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY)%s', copy, h::regclass,
                 coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', ''));
  -- TimescaleDB lets only a superuser give chunks away: who is none gives the copy before it has any.
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    EXECUTE format('ALTER TABLE %s OWNER TO %s', copy, c.relowner::regrole);
  END IF;
  IF c.relreplident IN ('f', 'n') THEN
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY %s', copy, CASE c.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END);
  END IF;
  PERFORM pgtier.shadow_timescale_call(format(
    'create_hypertable(%L::regclass, %L::name, chunk_time_interval => %L::interval, create_default_indexes => false)',
    copy, by_column, every));
  late := format('pgtier.%I', 'late_' || h);
  EXECUTE format('DROP TABLE IF EXISTS %s', late);
  EXECUTE format('CREATE TABLE %s (LIKE %s)', late, h::regclass);
  EXECUTE format('CREATE INDEX ON %s ("position", epoch)', late);
  EXECUTE format('GRANT INSERT ON %s TO pgtier_shadow', late);
  catcher := format('pgtier.%I()', 'shadow_catch_' || h);
  EXECUTE format('DROP FUNCTION IF EXISTS %s', catcher);
  -- Every name in it is qualified.
  EXECUTE format('CREATE FUNCTION %s RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L', catcher, format($body$
BEGIN
  IF (SELECT c.relnatts FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) TG_RELID) OPERATOR(pg_catalog.=) %s::pg_catalog.int2
     AND pg_catalog.has_column_privilege(TG_RELID, %s::pg_catalog.int2, 'INSERT'::pg_catalog.text) IS NULL THEN
    INSERT INTO %s SELECT NEW.*;
  END IF;
  RETURN NULL;
END
$body$, c.relnatts, c.relnatts + 1, late));
  EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', catcher);
  PERFORM pgtier.shadow_give('FUNCTION ' || catcher);
  SELECT string_agg('NEW.' || quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = h AND attnum > 0 AND NOT attisdropped;
  PERFORM pgtier.shadow_lock(ARRAY[h], 'SHARE ROW EXCLUSIVE');
  EXECUTE format('CREATE TRIGGER pgtier_split AFTER INSERT ON %s FOR EACH ROW WHEN (ROW(%s) IS NULL OR true) EXECUTE FUNCTION %s',
                 h::regclass, columns, catcher);
  EXECUTE format('CREATE TRIGGER pgtier_split_changed AFTER UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION '
                 'pgtier.shadow_split_catch()', h::regclass);
  EXECUTE format('CREATE TRIGGER pgtier_split_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION '
                 'pgtier.shadow_split_catch()', h::regclass);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER pgtier_split, ENABLE ALWAYS TRIGGER pgtier_split_changed, '
                 'ENABLE ALWAYS TRIGGER pgtier_split_truncate', h::regclass);
  PERFORM pgtier.shadow_refuse_code(copy::regclass);
  INSERT INTO pgtier.shadow_splits (relation, parent, copy, late, blocks, fingerprint)
    VALUES (h, 0, copy::regclass, late::regclass, pg_relation_size(h::regclass) / current_setting('block_size')::bigint,
            pgtier.shadow_hypertable_fingerprint(h));
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN h;
END
$fn$;

-- The columns that are copied: what is generated makes itself.
CREATE OR REPLACE FUNCTION pgtier.shadow_copied_columns(relation oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
  WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
$fn$;

-- When all blocks are copied, again and again: rows that came meanwhile go into the copy, at most `want` of them; how many.
-- Not before: a block's rows are left out by what `late` holds.
CREATE OR REPLACE FUNCTION pgtier.shadow_hypertable_late(part oid, want integer) RETURNS bigint
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_splits;
  moved bigint;
BEGIN
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = part;
  IF NOT FOUND OR s.next_block < s.blocks THEN RETURN 0; END IF;
  PERFORM pgtier.shadow_refuse_code(s.copy);
  EXECUTE format('WITH gone AS (DELETE FROM %1$s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$s LIMIT $1)) RETURNING %2$s) '
                 'INSERT INTO %3$s (%2$s) SELECT %2$s FROM gone', s.late::regclass, pgtier.shadow_copied_columns(s.copy),
                 s.copy::regclass) USING want;
  GET DIAGNOSTICS moved = ROW_COUNT;
  RETURN moved;
END
$fn$;

-- Last step, in one short transaction: the rest of the late rows, and the copy takes the table's name. Says how: 'swapped',
-- 'late' (too many rows came: move them first), 'again' (the table was changed: begin anew).
CREATE OR REPLACE FUNCTION pgtier.shadow_hypertable_swap(wanted text) RETURNS text
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  s pgtier.shadow_splits;
  h oid;
  many boolean;
  carry record;
  retired text;
  statement text;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true);
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  PERFORM pgtier.shadow_lock(ARRAY[h], 'ACCESS EXCLUSIVE');
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = h FOR UPDATE;
  IF NOT FOUND OR NOT s.verified OR NOT pgtier.shadow_hypertable_agrees(s) THEN RETURN 'again'; END IF;
  -- Writers wait for these.
  EXECUTE format('SELECT count(*) > 5000 FROM (SELECT FROM %s LIMIT 5001) AS l', s.late::regclass) INTO many;
  IF many THEN RETURN 'late'; END IF;
  PERFORM pgtier.shadow_refuse_code(s.copy);
  EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM %3$s', s.copy::regclass, pgtier.shadow_copied_columns(s.copy),
                 s.late::regclass);
  -- Not before: see shadow_copy_is_ours.
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    EXECUTE format('ALTER TABLE %s OWNER TO %s', s.copy::regclass, (SELECT relowner::regrole FROM pg_class WHERE oid = h));
  END IF;
  FOREACH statement IN ARRAY ARRAY['pgtier_split', 'pgtier_split_changed', 'pgtier_split_truncate'] LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', statement, h::regclass);
  END LOOP;
  SELECT * INTO carry FROM pgtier.shadow_partition_carry(h);
  FOREACH statement IN ARRAY carry.before_it LOOP EXECUTE statement; END LOOP;
  retired := pgtier.shadow_partition_name(names.schema_name, names.table_name, '_before_chunks');
  EXECUTE format('ALTER TABLE %s RENAME TO %I', h::regclass, retired);
  EXECUTE format('ALTER TABLE %s RENAME TO %I', s.copy::regclass, names.table_name);
  FOREACH statement IN ARRAY carry.after_it LOOP EXECUTE statement; END LOOP;
  DELETE FROM pgtier.shadow_splits WHERE relation = h;
  DELETE FROM pgtier.shadow_hypertables WHERE schema_name = names.schema_name AND table_name = names.table_name;
  INSERT INTO pgtier.shadow_hypertables (schema_name, table_name, retired, late, catcher)
    VALUES (names.schema_name, names.table_name, format('%I.%I', names.schema_name, retired), s.late::regclass::text,
            format('pgtier.%I()', 'shadow_catch_' || h));
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN 'swapped';
END
$fn$;

-- Afterwards: what the table was goes, with what caught late rows. False: there is nothing of the kind.
CREATE OR REPLACE FUNCTION pgtier.shadow_hypertable_retire(wanted text) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  k pgtier.shadow_hypertables;
BEGIN
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  SELECT * INTO k FROM pgtier.shadow_hypertables WHERE schema_name = names.schema_name AND table_name = names.table_name
    FOR UPDATE;
  IF NOT FOUND OR k.retired IS NULL THEN RETURN false; END IF;
  PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  EXECUTE format('DROP TABLE IF EXISTS %s', k.retired);
  EXECUTE format('DROP TABLE IF EXISTS %s', k.late);
  EXECUTE format('DROP FUNCTION IF EXISTS %s', k.catcher);
  UPDATE pgtier.shadow_hypertables SET retired = NULL, late = NULL, catcher = NULL
    WHERE schema_name = names.schema_name AND table_name = names.table_name;
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN true;
END
$fn$;
