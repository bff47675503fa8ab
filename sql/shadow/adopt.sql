-- Who owns what, and what is done before a history is trusted. A history may be the application's, with code in it that is
-- hers (see docs/decisions/0062), and that runs as who writes the history: pgtier_shadow. So whoever acts, a superuser
-- mostly, calls nothing and writes to nothing that pgtier_shadow owns: it owns histories and the functions that write
-- them, nothing else.

-- Hands over to a role what is named: 'FUNCTION pgtier.shadow_1()'. Who is no superuser can do that only while the role may
-- create in the schema.
CREATE OR REPLACE FUNCTION pgtier.shadow_give(what text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  super boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
BEGIN
  IF NOT super THEN
    PERFORM pg_advisory_xact_lock(7047000, 1);
    GRANT CREATE ON SCHEMA pgtier TO pgtier_shadow;
  END IF;
  EXECUTE format('ALTER %s OWNER TO pgtier_shadow', what);
  IF NOT super THEN REVOKE CREATE ON SCHEMA pgtier FROM pgtier_shadow; END IF;
END
$fn$;

-- Makes a function that pgtier_shadow owns what it was made as, before somebody else calls it in the same transaction: as an
-- INVOKER, or with another search_path, it would run with the caller's rights. Until the transaction ends nobody
-- else can change it; what it calls can, so it is said again before each call.
CREATE OR REPLACE FUNCTION pgtier.shadow_seal(what text, settings text DEFAULT '') RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  PERFORM pg_advisory_xact_lock(7047000, 1);
  EXECUTE format('ALTER FUNCTION pgtier.%s SECURITY DEFINER RESET ALL SET search_path = pg_catalog, pg_temp %s', what, settings);
END
$fn$;

-- Whether a history that holds whole rows keeps a column to itself, though the source has one of its name: what gives a
-- row of the history its number, as in (id bigserial PRIMARY KEY, old_row jsonb, new_row jsonb).
CREATE OR REPLACE FUNCTION pgtier.shadow_own_column(history oid, wanted text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT EXISTS (
    SELECT FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = history AND a.attname = wanted AND a.attnum > 0 AND NOT a.attisdropped
      AND (a.attidentity <> '' OR a.attgenerated <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%'
           OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisunique
                      AND a.attnum = ANY (i.indkey::smallint[]))))
  AND EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = history AND attname IN ('new_row', 'old_row') AND NOT attisdropped
      AND atttypid IN ('json'::regtype, 'jsonb'::regtype))
$fn$;

-- The newest epoch and position that a history has which is to be adopted; NULL: it has none, or its table has drawn
-- positions already. In a transaction of its own, under the weakest lock: it may read the whole table where nothing is
-- indexed. An index of any kind that begins with the column makes it short, for the end of the table tells where to look.
CREATE OR REPLACE FUNCTION pgtier.shadow_newest(wanted_source text, wanted_history text, OUT newest_epoch bigint,
                                                OUT newest_position bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET row_security = off
AS $fn$
DECLARE
  src record;
  his record;
  history oid;
  r oid;
  c text;
  known integer;
  drawn boolean := false;
  pages bigint;
  low bigint;
  high bigint;
BEGIN
  SELECT * INTO src FROM pgtier.shadow_names(wanted_source);
  SELECT * INTO his FROM pgtier.shadow_names(CASE wanted_history
    WHEN '' THEN format('%I.%I', src.schema_name, (src.table_name || '_history')::name) ELSE wanted_history END);
  SELECT id INTO known FROM pgtier.shadow_tables WHERE source = pgtier.shadow_oid(src.schema_name, src.table_name)
    ORDER BY installed DESC, id DESC LIMIT 1;
  IF to_regclass('pgtier.position_' || known) IS NOT NULL THEN
    EXECUTE format('SELECT is_called FROM pgtier.%I', 'position_' || known) INTO drawn;
  END IF;
  history := pgtier.shadow_oid(his.schema_name, his.table_name);
  IF drawn OR history IS NULL OR NOT pgtier.shadow_has_column(history, 'epoch')
     OR NOT pgtier.shadow_has_column(history, 'position') THEN RETURN; END IF;
  PERFORM set_config('lock_timeout', '600ms', true);
  -- A hypertable's chunks inherit from it.
  FOR r IN SELECT history UNION SELECT relid::oid FROM pg_partition_tree(history::regclass)
           UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = history LOOP
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', r::regclass);
    -- Asked when nothing can come in its place: what is read is a table, not a view with somebody's functions.
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_class WHERE oid = r AND relkind = 'r');
    pages := pg_relation_size(r::regclass) / current_setting('block_size')::bigint;
    FOREACH c IN ARRAY ARRAY['epoch', 'position'] LOOP
      EXECUTE format('SELECT max(%I) FROM ONLY %s WHERE ctid >= %L', c, r::regclass, format('(%s,0)', greatest(pages - 8, 0))) INTO low;
      EXECUTE format('SELECT max(%I) FROM ONLY %s WHERE %I > %L', c, r::regclass, c,
                     coalesce(low, -9223372036854775808)) INTO high;
      IF c = 'epoch' THEN newest_epoch := greatest(newest_epoch, low, high);
      ELSE newest_position := greatest(newest_position, low, high); END IF;
    END LOOP;
  END LOOP;
END
$fn$;

-- Whether a history takes what is written into it: rows of each operation, as the triggers write them, taken back at once.
-- What it says when it does not; NULL: it takes them. It draws from the history's own sequences, from none of pgtier's.
CREATE OR REPLACE FUNCTION pgtier.shadow_try(wanted integer) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  place text;
  history oid;
  op text;
  names text;
  nulls text;
BEGIN
  SELECT p.history, p.history_sql INTO history, place FROM pgtier.shadow_places(wanted) AS p;
  FOREACH op IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] LOOP
    SELECT coalesce(string_agg(', ' || quote_ident(c), ''), ''), coalesce(string_agg(', NULL', ''), '') INTO names, nulls
      FROM (SELECT new_column FROM pgtier.shadow_columns WHERE table_id = wanted AND op <> 'TRUNCATE'
            UNION ALL SELECT old_column FROM pgtier.shadow_columns WHERE table_id = wanted AND op = 'UPDATE'
            UNION ALL SELECT unnest(ARRAY[new_row, old_row]) FROM pgtier.shadow_tables
                      WHERE id = wanted AND op <> 'TRUNCATE') AS k (c)
      -- The preflight has looked at those that are never NULL.
      WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = history AND attname = c AND NOT attnotnull);
    BEGIN
      SET CONSTRAINTS ALL IMMEDIATE;
      -- Two, for what may come once only. Positions that nothing has.
      EXECUTE format('INSERT INTO %s (epoch, "position", at_utc, operation, actor%s) SELECT 9223372036854775807, '
                     '9223372036854775807 - n, clock_timestamp(), %L, NULL%s FROM generate_series(0, 1) AS n',
                     place, names, op, nulls);
      RAISE EXCEPTION USING ERRCODE = 'PGT01';
    EXCEPTION
      WHEN SQLSTATE 'PGT01' THEN NULL;
      WHEN lock_not_available OR deadlock_detected THEN RAISE;
      WHEN OTHERS THEN RETURN format('%s: %s', op, sqlerrm);
    END;
  END LOOP;
  RETURN NULL;
END
$fn$;

-- Whether a column of a history holds whole rows.
CREATE OR REPLACE FUNCTION pgtier.shadow_row_column(history oid, wanted text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT wanted IN ('new_row', 'old_row')
         AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = history AND attname = wanted AND NOT attisdropped
                     AND atttypid IN ('json'::regtype, 'jsonb'::regtype))
$fn$;

-- What earlier versions gave to pgtier_shadow is taken back.
DO $do$
DECLARE
  r record;
BEGIN
  PERFORM set_config('lock_timeout', '600ms', true);
  FOR r IN SELECT c.oid::regclass AS name, c.relkind FROM pg_class AS c
           WHERE c.relnamespace = 'pgtier'::regnamespace AND c.relowner = 'pgtier_shadow'::regrole
             AND c.relname ~ '^(outbox|position)_[0-9]+$' ORDER BY c.oid LOOP
    EXECUTE format('ALTER %s %s OWNER TO CURRENT_USER', CASE r.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, r.name);
    EXECUTE format('GRANT %s TO pgtier_shadow', CASE r.relkind
      WHEN 'S' THEN format('USAGE ON SEQUENCE %s', r.name) ELSE format('SELECT, INSERT, DELETE ON %s', r.name) END);
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r.name)
       OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = r.name)
       OR EXISTS (SELECT FROM pg_attrdef WHERE adrelid = r.name)
       OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = r.name AND contype NOT IN ('p', 'n'))
       OR (SELECT count(*) FROM pg_index WHERE indrelid = r.name) > 1 THEN
      RAISE EXCEPTION '% has triggers, rules, constraints or indexes that pgtier did not make', r.name
        USING ERRCODE = '55000', HINT = 'Look who made them: they run code as whoever writes to it. Then drop them.';
    END IF;
  END LOOP;
  FOR r IN SELECT p.oid::regprocedure AS name FROM pg_proc AS p
           WHERE p.pronamespace = 'pgtier'::regnamespace AND p.proowner = 'pgtier_shadow'::regrole
             AND (p.proname IN ('shadow_outboxes', 'shadow_queue') OR p.proname ~ '^shadow_actor_[0-9]+$') LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO CURRENT_USER', r.name);
  END LOOP;
  FOR r IN SELECT p.oid::regprocedure AS name FROM pg_proc AS p
           WHERE p.pronamespace = 'pgtier'::regnamespace AND p.proowner <> 'pgtier_shadow'::regrole
             AND p.proname IN ('shadow_drain', 'shadow_try', 'shadow_accept') LOOP
    PERFORM pgtier.shadow_give(format('FUNCTION %s', r.name));
  END LOOP;
END
$do$;

-- A policy that is deleted and leaves its triggers at work.
CREATE OR REPLACE FUNCTION pgtier.shadow_retain(wanted text) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $fn$
  UPDATE pgtier.shadow_state SET retained = true WHERE policy = wanted AND installed AND NOT retained
$fn$;

-- Which database this is. Oids are of one database: a logical restore, or a copy, brings rows of these tables whose oids
-- are somebody else's there.
CREATE TABLE IF NOT EXISTS pgtier.shadow_database (
  one               boolean PRIMARY KEY DEFAULT true CHECK (one),
  oid               oid     NOT NULL,
  system_identifier text    NOT NULL
);

CREATE OR REPLACE FUNCTION pgtier.shadow_same_database() RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT coalesce((SELECT (k.oid, k.system_identifier) = (d.oid, p.system_identifier::text)
                   FROM pgtier.shadow_database AS k, pg_database AS d, pg_control_system() AS p
                   WHERE d.datname = current_database()), true)
$fn$;

-- Finds everything by its name once, where the database is not the one that it was. Writes nothing elsewhere.
CREATE OR REPLACE FUNCTION pgtier.shadow_settle_database() RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  ids integer[];
  c record;
BEGIN
  IF EXISTS (SELECT FROM pgtier.shadow_database) AND pgtier.shadow_same_database() THEN RETURN; END IF;
  LOCK TABLE pgtier.shadow_database;
  IF NOT pgtier.shadow_same_database() THEN
    ids := ARRAY(SELECT id FROM pgtier.shadow_tables WHERE installed);
    -- One after the other: two tables may have exchanged their oids.
    UPDATE pgtier.shadow_tables SET installed = false WHERE installed;
    UPDATE pgtier.shadow_tables SET source = coalesce(pgtier.shadow_oid(source_schema, source_name), 0);
    UPDATE pgtier.shadow_tables SET installed = true WHERE id = ANY (ids) AND source <> 0;
    -- What was dropped before a dump has no number after it, and types have other oids.
    FOR c IN WITH gone AS (DELETE FROM pgtier.shadow_columns RETURNING *)
             SELECT gone.table_id, coalesce(s.attnum, -gone.attnum) AS attnum, gone.name, coalesce(s.type, gone.type) AS type,
                    gone.new_column, gone.old_column
             FROM gone JOIN pgtier.shadow_tables AS t ON t.id = gone.table_id
             LEFT JOIN LATERAL pgtier.shadow_source_columns(t.source) AS s ON s.name = gone.name LOOP
      INSERT INTO pgtier.shadow_columns (table_id, attnum, name, type, new_column, old_column)
        VALUES (c.table_id, c.attnum, c.name, c.type, c.new_column, c.old_column);
    END LOOP;
    DELETE FROM pgtier.shadow_parts;
    DELETE FROM pgtier.shadow_identities;
    DELETE FROM pgtier.shadow_waits;
    DELETE FROM pgtier.shadow_database;
  END IF;
  INSERT INTO pgtier.shadow_database (oid, system_identifier)
    SELECT d.oid, p.system_identifier::text FROM pg_database AS d, pg_control_system() AS p
    WHERE d.datname = current_database() ON CONFLICT (one) DO NOTHING;
END
$fn$;
