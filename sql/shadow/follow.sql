-- Changes of the schema: carried over in their own transaction, or refused with a sentence.

-- Whether what is known of a source, its function or its triggers are behind the source.
CREATE OR REPLACE FUNCTION pgtier.shadow_is_behind(wanted integer) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT (t.source_schema, t.source_name) <> (n.nspname, c.relname)
         OR NOT pgtier.shadow_columns_agree(wanted)
         OR (SELECT (t.key, t.shards) IS DISTINCT FROM (k.key, k.shards) FROM pgtier.shadow_key(t.source) AS k)
         OR NOT pgtier.shadow_function_agrees(wanted) OR NOT pgtier.shadow_triggers_agree(wanted)
         OR EXISTS (SELECT FROM pg_trigger WHERE tgname = '00_pgtier_shadow_truncate'
                    AND tgfoid = pgtier.shadow_function_oid(wanted)
                    AND tgrelid NOT IN (SELECT pgtier.shadow_leaf_oids(t.source)))
  FROM pgtier.shadow_tables AS t JOIN pg_class AS c ON c.oid = t.source JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE t.id = wanted
$fn$;

-- The sources that a change of these relations concerns: columns come down from a parent, partitions belong to one.
CREATE OR REPLACE FUNCTION pgtier.shadow_concerned(relations oid[]) RETURNS SETOF integer
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  WITH RECURSIVE above (oid) AS (
    SELECT unnest(relations) UNION SELECT i.inhparent FROM above JOIN pg_inherits AS i ON i.inhrelid = above.oid),
  below (oid) AS (
    SELECT unnest(relations) UNION SELECT i.inhrelid FROM below JOIN pg_inherits AS i ON i.inhparent = below.oid)
  SELECT t.id FROM pgtier.shadow_tables AS t
  WHERE t.installed AND t.source IN (SELECT oid FROM above UNION SELECT oid FROM below) ORDER BY t.id
$fn$;

-- A source that was changed: name, columns, key, function, and the triggers of its parts. DDL holds the source.
--
-- What is written here depends on the policy's tier and epoch. Its row is held until the application's transaction ends,
-- so that a barrier or a swap comes before or after; and the table's row is changed, so that a REPEATABLE READ
-- transaction whose snapshot is older than a barrier, a swap or another change fails (40001) and is to be begun again,
-- instead of writing what was right then. See docs/decisions/0063.
CREATE OR REPLACE FUNCTION pgtier.shadow_follow(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  IF pgtier.shadow_is_behind(wanted) THEN
    PERFORM FROM pgtier.shadow_state AS s WHERE s.policy = (SELECT policy FROM pgtier.shadow_tables WHERE id = wanted)
      FOR SHARE;
    UPDATE pgtier.shadow_tables SET followed = followed + 1 WHERE id = wanted;
  END IF;
  UPDATE pgtier.shadow_tables AS t SET source_schema = n.nspname, source_name = c.relname
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE t.id = wanted AND c.oid = t.source AND (t.source_schema, t.source_name) <> (n.nspname, c.relname);
  PERFORM pgtier.shadow_follow_columns(wanted);
  PERFORM pgtier.shadow_set_key(wanted);
  PERFORM pgtier.shadow_set_function(wanted);
  IF NOT pgtier.shadow_triggers_agree(wanted)
     OR EXISTS (SELECT FROM pg_trigger WHERE tgname = '00_pgtier_shadow_truncate'
                AND tgfoid = pgtier.shadow_function_oid(wanted)
                AND tgrelid NOT IN (SELECT pgtier.shadow_leaf_oids(source) FROM pgtier.shadow_tables WHERE id = wanted)) THEN
    PERFORM pgtier.shadow_set_triggers(wanted);
  END IF;
  -- What cdc keeps of each leaf, where cdc is known.
  IF to_regprocedure('pgtier.shadow_follow_cdc(integer)') IS NOT NULL THEN
    EXECUTE 'SELECT pgtier.shadow_follow_cdc($1)' USING wanted;
  END IF;
END
$fn$;

-- Fails when a history in use lacks what is written into it: a change that took it away is refused, for each write of
-- the application would fail after it.
CREATE OR REPLACE FUNCTION pgtier.shadow_guard_histories() RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  lacks record;
BEGIN
  SELECT t.source_schema, t.source_name, t.history_schema, t.history_name, t.policy, c.name INTO lacks
    FROM pgtier.shadow_tables AS t, pgtier.shadow_places(t.id) AS p,
         LATERAL (SELECT unnest(ARRAY['epoch', 'position', 'at_utc', 'operation', 'actor']) AS name
                  UNION ALL SELECT k.new_column FROM pgtier.shadow_columns AS k WHERE k.table_id = t.id
                  UNION ALL SELECT k.old_column FROM pgtier.shadow_columns AS k WHERE k.table_id = t.id
                  UNION ALL SELECT unnest(ARRAY[t.new_row, t.old_row])) AS c
    WHERE t.installed AND EXISTS (SELECT FROM pg_class WHERE oid = t.source) AND c.name IS NOT NULL
      AND (p.history IS NULL OR NOT pgtier.shadow_has_column(p.history, c.name)) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '%.% (column %) records the changes of %.% for the policy %', lacks.history_schema,
      lacks.history_name, lacks.name, lacks.source_schema, lacks.source_name, lacks.policy
      USING ERRCODE = '55000', HINT = 'Take the table out of the ShadowTablePolicy first.';
  END IF;
END
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_on_ddl() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  r record;
  was_timeout text := current_setting('lock_timeout');
BEGIN
  IF pgtier.shadow_is_own_ddl() THEN RETURN; END IF;
  -- Of a database that was restored the next Install makes out what is what.
  IF NOT pgtier.shadow_same_database() THEN RETURN; END IF;
  PERFORM pgtier.shadow_own_ddl(true);
  -- Who reads a history for long shall not stop the application, which waits for the source: rather this DDL fails.
  IF was_timeout::interval = '0' OR was_timeout::interval > '3 seconds' THEN
    PERFORM set_config('lock_timeout', '3s', true);
  END IF;
  FOR r IN SELECT c.id FROM pgtier.shadow_concerned(ARRAY(
             SELECT objid FROM pg_event_trigger_ddl_commands()
             WHERE classid = 'pg_class'::regclass AND objid IS NOT NULL)) AS c (id)
           UNION
           -- A composite type's attributes are columns of the tables of that type.
           SELECT t.id FROM pgtier.shadow_tables AS t
           WHERE tg_tag = 'ALTER TYPE' AND t.installed AND NOT pgtier.shadow_columns_agree(t.id)
             AND EXISTS (SELECT FROM pg_class WHERE oid = t.source) ORDER BY id LOOP
    PERFORM pgtier.shadow_follow(r.id);
  END LOOP;
  IF tg_tag IN ('ALTER TABLE', 'ALTER SCHEMA') THEN
    FOR r IN SELECT t.id FROM pgtier.shadow_tables AS t JOIN pg_class AS c ON c.oid = t.source
             JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE t.installed AND t.source_schema <> n.nspname LOOP
      PERFORM pgtier.shadow_follow(r.id);
    END LOOP;
    PERFORM pgtier.shadow_guard_histories();
  END IF;
  PERFORM set_config('lock_timeout', was_timeout, true), pgtier.shadow_own_ddl(false);
END
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_on_drop() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  r record;
BEGIN
  IF pgtier.shadow_is_own_ddl() THEN RETURN; END IF;
  -- Of a database that was restored the next Install makes out what is what.
  IF NOT pgtier.shadow_same_database() THEN RETURN; END IF;
  PERFORM pgtier.shadow_own_ddl(true);
  -- A column may go by DROP TYPE … CASCADE too; ALTER TABLE has been followed when it ended.
  FOR r IN SELECT DISTINCT t.id FROM pg_event_trigger_dropped_objects() AS d
           JOIN pgtier.shadow_tables AS t ON t.source = d.objid AND t.installed
           WHERE d.classid = 'pg_class'::regclass AND d.objsubid <> 0
             AND EXISTS (SELECT FROM pg_class WHERE oid = t.source) LOOP
    PERFORM pgtier.shadow_follow(r.id);
  END LOOP;
  FOR r IN SELECT t.id FROM pg_event_trigger_dropped_objects() AS d
           JOIN pgtier.shadow_tables AS t ON t.source = d.objid AND t.installed
           WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 LOOP
    UPDATE pgtier.shadow_tables SET installed = false WHERE id = r.id;
    EXECUTE format('DROP FUNCTION IF EXISTS pgtier.%I()', 'shadow_' || r.id);
  END LOOP;
  PERFORM pgtier.shadow_guard_histories();
  PERFORM pgtier.shadow_own_ddl(false);
END
$fn$;

-- Only a superuser makes event triggers; elsewhere the preflight says how to change a table then.
DO $do$
BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'pgtier_shadow_ddl' AND 'ALTER TYPE' = ANY (evttags)) THEN
      DROP EVENT TRIGGER IF EXISTS pgtier_shadow_ddl;
      CREATE EVENT TRIGGER pgtier_shadow_ddl ON ddl_command_end
        WHEN TAG IN ('ALTER TABLE', 'ALTER TYPE', 'CREATE TABLE', 'CREATE TABLE AS', 'ALTER SCHEMA')
        EXECUTE FUNCTION pgtier.shadow_on_ddl();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'pgtier_shadow_drop') THEN
      CREATE EVENT TRIGGER pgtier_shadow_drop ON sql_drop EXECUTE FUNCTION pgtier.shadow_on_drop();
    END IF;
    ALTER EVENT TRIGGER pgtier_shadow_ddl ENABLE ALWAYS;
    ALTER EVENT TRIGGER pgtier_shadow_drop ENABLE ALWAYS;
  END IF;
END
$do$;
