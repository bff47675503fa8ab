-- Tables come into a policy and leave it. Called in one transaction a table; whoever dies in between begins again.

-- The policy's row; nothing is written where it is as given.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_policy(wanted text, wanted_actor text, wanted_channel text,
                                                    wanted_slot text, wanted_version text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  PERFORM set_config('lock_timeout', '600ms', true);
  -- Looked for first: the INSERT alone would draw a number, which is a write, at each call.
  IF NOT EXISTS (SELECT FROM pgtier.shadow_state WHERE policy = wanted) THEN
    INSERT INTO pgtier.shadow_state (policy, actor_setting, channel, slot, version)
      VALUES (wanted, wanted_actor, wanted_channel, wanted_slot, wanted_version) ON CONFLICT (policy) DO NOTHING;
  END IF;
  UPDATE pgtier.shadow_state SET actor_setting = wanted_actor, channel = wanted_channel, slot = wanted_slot,
                                 version = wanted_version, installed = true
    WHERE policy = wanted AND (actor_setting, channel, slot, version, installed)
          IS DISTINCT FROM (wanted_actor, wanted_channel, wanted_slot, wanted_version, true);
  UPDATE pgtier.shadow_state SET retained = false WHERE policy = wanted AND retained;
  -- Not while an application's change of a source writes one.
  IF EXISTS (SELECT FROM pgtier.shadow_tables AS t WHERE t.policy = wanted AND t.installed
             AND NOT pgtier.shadow_function_agrees(t.id)) THEN
    PERFORM FROM pgtier.shadow_state WHERE policy = wanted FOR NO KEY UPDATE;
    PERFORM pgtier.shadow_set_functions(wanted);
  END IF;
END
$fn$;

-- Makes the history, or takes the one that is there: finds which of its columns hold what.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_history(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  places record;
  c record;
BEGIN
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  SELECT * INTO places FROM pgtier.shadow_places(wanted);
  IF places.history IS NULL THEN
    EXECUTE format('CREATE TABLE %s (epoch bigint NOT NULL, "position" bigint NOT NULL, at_utc timestamptz NOT NULL, '
                   'operation text NOT NULL, actor text)', places.history_sql);
    -- Ordered as they are written, so that a few pages of BRIN do for what would be a btree as large as the table.
    EXECUTE format('CREATE INDEX ON %s USING brin (at_utc) WITH (autosummarize = on)', places.history_sql);
    EXECUTE format('CREATE INDEX ON %s USING brin (epoch, "position") WITH (autosummarize = on)', places.history_sql);
    DELETE FROM pgtier.shadow_columns WHERE table_id = wanted;
    UPDATE pgtier.shadow_tables SET made = true, follows = true, new_row = NULL, old_row = NULL WHERE id = wanted;
    INSERT INTO pgtier.shadow_columns (table_id, attnum, name, type)
      SELECT wanted, attnum, name, type FROM pgtier.shadow_source_columns(t.source);
    FOR c IN SELECT * FROM pgtier.shadow_columns WHERE table_id = wanted ORDER BY attnum LOOP
      UPDATE pgtier.shadow_columns SET new_column = pgtier.shadow_add_column(wanted, c.name, c.type)
        WHERE table_id = wanted AND attnum = c.attnum;
    END LOOP;
    FOR c IN SELECT * FROM pgtier.shadow_columns WHERE table_id = wanted ORDER BY attnum LOOP
      UPDATE pgtier.shadow_columns SET old_column = pgtier.shadow_add_column(wanted, 'old_' || c.name, c.type)
        WHERE table_id = wanted AND attnum = c.attnum;
    END LOOP;
  ELSIF NOT EXISTS (SELECT FROM pgtier.shadow_columns WHERE table_id = wanted) THEN
    -- Older rows come first: epoch 0.
    FOR c IN SELECT * FROM (VALUES (1, 'epoch', 'bigint NOT NULL DEFAULT 0'), (2, 'position', 'bigint NOT NULL DEFAULT 0'),
                                   (3, 'at_utc', 'timestamptz'), (4, 'operation', 'text'), (5, 'actor', 'text'))
             AS m (n, name, type) ORDER BY n LOOP
      IF NOT pgtier.shadow_has_column(places.history, c.name) THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', places.history_sql, c.name, c.type);
        IF c.n <= 2 THEN EXECUTE format('ALTER TABLE %s ALTER %I DROP DEFAULT', places.history_sql, c.name); END IF;
      END IF;
    END LOOP;
    INSERT INTO pgtier.shadow_columns (table_id, attnum, name, type, new_column, old_column)
      SELECT wanted, s.attnum, s.name, s.type,
             CASE WHEN s.name NOT IN ('epoch', 'position', 'at_utc', 'operation', 'actor')
                       AND pgtier.shadow_has_column(places.history, s.name)
                       AND NOT pgtier.shadow_own_column(places.history, s.name)
                       AND NOT pgtier.shadow_row_column(places.history, s.name) THEN s.name END,
             CASE WHEN pgtier.shadow_has_column(places.history, ('old_' || s.name)::name::text)
                       AND NOT pgtier.shadow_own_column(places.history, ('old_' || s.name)::name::text)
                       AND NOT pgtier.shadow_row_column(places.history, ('old_' || s.name)::name::text)
                       AND NOT pgtier.shadow_has_column(t.source, ('old_' || s.name)::name::text)
                  THEN ('old_' || s.name)::name::text END
      FROM pgtier.shadow_source_columns(t.source) AS s;
    UPDATE pgtier.shadow_tables SET
      new_row = (SELECT attname FROM pg_attribute WHERE attrelid = places.history AND attname = 'new_row'
                 AND atttypid IN ('json'::regtype, 'jsonb'::regtype) AND NOT attisdropped),
      old_row = (SELECT attname FROM pg_attribute WHERE attrelid = places.history AND attname = 'old_row'
                 AND atttypid IN ('json'::regtype, 'jsonb'::regtype) AND NOT attisdropped),
      follows = made OR EXISTS (SELECT FROM pgtier.shadow_columns WHERE table_id = wanted AND new_column IS NOT NULL)
      WHERE id = wanted;
    -- A source that was made anew may have columns that its history has not, or of other types.
    IF t.made THEN
      FOR c IN SELECT k.* FROM pgtier.shadow_columns AS k LEFT JOIN pg_attribute AS a
                 ON a.attrelid = places.history AND a.attname = k.new_column
               WHERE k.table_id = wanted AND a.atttypid IS DISTINCT FROM k.type ORDER BY k.attnum LOOP
        UPDATE pgtier.shadow_columns SET new_column = NULL, old_column = NULL WHERE table_id = wanted AND attnum = c.attnum;
        UPDATE pgtier.shadow_columns SET new_column = pgtier.shadow_add_column(wanted, c.name, c.type)
          WHERE table_id = wanted AND attnum = c.attnum;
        UPDATE pgtier.shadow_columns SET old_column = pgtier.shadow_add_column(wanted, 'old_' || c.name, c.type)
          WHERE table_id = wanted AND attnum = c.attnum;
      END LOOP;
    END IF;
  END IF;
  SELECT * INTO places FROM pgtier.shadow_places(wanted);
  EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO pgtier_shadow', t.history_schema);
  FOR c IN SELECT oid FROM pg_class WHERE relowner <> 'pgtier_shadow'::regrole AND relkind IN ('r', 'p', 'f')
             AND (oid = places.history OR oid IN (SELECT relid FROM pg_partition_tree(places.history::regclass))) LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO pgtier_shadow', c.oid::regclass);
  END LOOP;
  EXECUTE format('GRANT SELECT ON %s TO %s', places.history_sql,
                 (SELECT relowner::regrole FROM pg_class WHERE oid = t.source));
  EXECUTE format('GRANT INSERT ON %s TO pgtier_shadow_cdc', places.history_sql);
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO pgtier_shadow_cdc', t.history_schema);
END
$fn$;

-- The outbox: the history's columns that are filled, under its names and types. And the sequence of the positions:
-- CACHE 1, for a session that keeps numbers gives them out of order.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_outbox(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  places record;
  c record;
BEGIN
  EXECUTE format('CREATE SEQUENCE IF NOT EXISTS pgtier.%I AS bigint CACHE 1', 'position_' || wanted);
  EXECUTE format('GRANT USAGE ON SEQUENCE pgtier.%I TO pgtier_shadow, pgtier_shadow_cdc', 'position_' || wanted);
  SELECT * INTO places FROM pgtier.shadow_places(wanted);
  IF places.outbox IS NULL THEN
    EXECUTE format('CREATE TABLE %s (epoch bigint NOT NULL, "position" bigint PRIMARY KEY, at_utc timestamptz NOT NULL, '
                   'operation text NOT NULL, actor text, pgtier_shard smallint NOT NULL, pgtier_also smallint) WITH '
                   '(autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, '
                   'autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000)', places.outbox_sql);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO pgtier_shadow', places.outbox_sql);
    SELECT * INTO places FROM pgtier.shadow_places(wanted);
  END IF;
  FOR c IN SELECT a.attname, format_type(pgtier.shadow_type(a.atttypid), CASE WHEN pgtier.shadow_type(a.atttypid) = a.atttypid
                                                                      THEN a.atttypmod ELSE -1 END) AS type
           FROM pg_attribute AS a
           WHERE a.attrelid = places.history AND a.attnum > 0 AND NOT a.attisdropped
             AND a.attname IN (SELECT unnest(ARRAY[k.new_column, k.old_column]) FROM pgtier.shadow_columns AS k
                               WHERE k.table_id = wanted
                               UNION SELECT unnest(ARRAY[t.new_row, t.old_row]) FROM pgtier.shadow_tables AS t
                               WHERE t.id = wanted)
             AND NOT pgtier.shadow_has_column(places.outbox, a.attname) ORDER BY a.attnum LOOP
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', places.outbox_sql, c.attname, c.type);
  END LOOP;
END
$fn$;

-- An epoch may only grow at a barrier, but for a policy that records nothing yet.
CREATE OR REPLACE FUNCTION pgtier.shadow_epoch_at_least(wanted text, floor_epoch bigint) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  IF NOT EXISTS (SELECT FROM pgtier.shadow_state WHERE policy = wanted AND epoch < floor_epoch) THEN RETURN; END IF;
  IF EXISTS (SELECT FROM pgtier.shadow_tables WHERE policy = wanted AND installed) THEN
    RAISE EXCEPTION 'the history has rows of epoch %, the policy % is at an older one: they would be sorted after what it '
      'records now. Put the table into a policy of its own', floor_epoch, wanted USING ERRCODE = '55000';
  END IF;
  UPDATE pgtier.shadow_state SET epoch = floor_epoch WHERE policy = wanted;
END
$fn$;

-- Positions go on after those that an adopted history has (of a restored database, say; shadow_newest has read them).
DROP FUNCTION IF EXISTS pgtier.shadow_after_older(integer);
CREATE OR REPLACE FUNCTION pgtier.shadow_after_older(wanted integer, newest_epoch bigint, newest_position bigint) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  fresh boolean;
BEGIN
  EXECUTE format('SELECT NOT is_called FROM pgtier.%I', 'position_' || wanted) INTO fresh;
  IF NOT fresh THEN RETURN; END IF;
  IF newest_position > 0 THEN PERFORM setval(format('pgtier.%I', 'position_' || wanted)::regclass, newest_position); END IF;
  PERFORM pgtier.shadow_epoch_at_least((SELECT policy FROM pgtier.shadow_tables WHERE id = wanted), newest_epoch);
END
$fn$;

-- Before a table gets another history: what is queued goes into the one that it was queued for. Writers wait meanwhile.
CREATE OR REPLACE FUNCTION pgtier.shadow_empty_outbox(wanted integer, source oid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  batch record;
BEGIN
  IF (SELECT outbox IS NULL FROM pgtier.shadow_places(wanted)) THEN RETURN; END IF;
  IF EXISTS (SELECT FROM pg_class WHERE oid = source) THEN
    PERFORM pgtier.shadow_lock(pgtier.shadow_relations(source), 'SHARE ROW EXCLUSIVE');
  END IF;
  IF (SELECT depth FROM pgtier.shadow_queue(wanted, 5001)) > 5000 THEN
    RAISE EXCEPTION 'more than 5000 rows are queued for the former history: they are moved into it first'
      USING ERRCODE = '55P03';
  END IF;
  LOOP
    SELECT * INTO batch FROM pgtier.shadow_drain_sealed(wanted);
    EXIT WHEN batch.next = 'rest';
  END LOOP;
END
$fn$;

-- Whether a table is installed as the policy's tier wants it; if not, shadow_install_table makes it so.
CREATE OR REPLACE FUNCTION pgtier.shadow_agrees(wanted integer) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT t.installed AND p.history IS NOT NULL AND p.outbox IS NOT NULL AND pgtier.shadow_columns_agree(wanted)
         AND pgtier.shadow_function_agrees(wanted) AND pgtier.shadow_triggers_agree(wanted)
         AND (NOT EXISTS (SELECT FROM pgtier.shadow_state AS s WHERE s.policy = t.policy AND s.tier = 'cdc')
              OR pgtier.shadow_table_lacks_cdc(wanted) IS NULL)
  FROM pgtier.shadow_tables AS t, pgtier.shadow_places(wanted) AS p WHERE t.id = wanted
$fn$;

-- Takes a table into the policy, or mends it. `history` '' is <source>_history; newest_… are what shadow_newest gave. Gives
-- the table's number.
DROP FUNCTION IF EXISTS pgtier.shadow_install_table(text, text, text);
CREATE OR REPLACE FUNCTION pgtier.shadow_install_table(wanted_policy text, wanted_source text, wanted_history text,
                                                       newest_epoch bigint, newest_position bigint) RETURNS integer
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  src record;
  his record;
  source_oid oid;
  t pgtier.shadow_tables;
  other pgtier.shadow_tables;
  refused text;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true);
  SELECT * INTO src FROM pgtier.shadow_names(wanted_source);
  source_oid := pgtier.shadow_oid(src.schema_name, src.table_name);
  IF source_oid IS NULL THEN RAISE EXCEPTION 'there is no table %', wanted_source USING ERRCODE = '42P01'; END IF;
  IF wanted_history = '' THEN
    SELECT src.schema_name, (src.table_name || '_history')::name::text AS table_name INTO his;
  ELSE
    SELECT * INTO his FROM pgtier.shadow_names(wanted_history);
  END IF;
  PERFORM set_config('lock_timeout', '600ms', true);
  -- Neither tier nor epoch change meanwhile, and changes of the application are followed before or after.
  PERFORM FROM pgtier.shadow_state WHERE policy = wanted_policy FOR NO KEY UPDATE;
  -- Against DDL, not against writers: these are held off at the end only.
  EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', source_oid::regclass);
  -- One that was here before keeps its number, hence its positions: whoever reads orders by them.
  SELECT * INTO t FROM pgtier.shadow_tables AS k
    WHERE k.source = source_oid OR (k.source_schema = src.schema_name AND k.source_name = src.table_name
                                    AND NOT EXISTS (SELECT FROM pg_class WHERE oid = k.source))
    ORDER BY k.installed DESC, k.source = source_oid DESC, k.policy = wanted_policy DESC, k.id DESC LIMIT 1;
  IF FOUND AND t.installed AND t.policy <> wanted_policy THEN
    IF NOT (SELECT retained FROM pgtier.shadow_state WHERE policy = t.policy) THEN
      RAISE EXCEPTION '% belongs to the policy %', wanted_source, t.policy USING ERRCODE = '55000';
    END IF;
    -- A policy that was deleted and retained left it: nobody writes by the former text when the new one comes.
    PERFORM pgtier.shadow_lock(pgtier.shadow_relations(source_oid), 'SHARE ROW EXCLUSIVE');
  END IF;
  SELECT * INTO other FROM pgtier.shadow_tables AS k
    WHERE k.installed AND (k.history_schema, k.history_name) = (his.schema_name, his.table_name)
      AND k.id IS DISTINCT FROM t.id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '%.% is the history of %.% in the policy %', his.schema_name, his.table_name, other.source_schema,
      other.source_name, other.policy USING ERRCODE = '55000';
  END IF;
  IF t.id IS NULL THEN
    INSERT INTO pgtier.shadow_tables (policy, source, source_schema, source_name, history_schema, history_name)
      VALUES (wanted_policy, source_oid, src.schema_name, src.table_name, his.schema_name, his.table_name)
      RETURNING * INTO t;
  ELSE
    IF (t.history_schema, t.history_name) IS DISTINCT FROM (his.schema_name, his.table_name) THEN
      PERFORM pgtier.shadow_empty_outbox(t.id, t.source);
    END IF;
    IF t.source <> source_oid OR (t.history_schema, t.history_name) IS DISTINCT FROM (his.schema_name, his.table_name)
       OR pgtier.shadow_oid(t.history_schema, t.history_name) IS NULL THEN
      DELETE FROM pgtier.shadow_columns WHERE table_id = t.id;
    END IF;
    IF t.policy <> wanted_policy THEN
      PERFORM pgtier.shadow_epoch_at_least(wanted_policy, (SELECT epoch FROM pgtier.shadow_state WHERE policy = t.policy));
    END IF;
    UPDATE pgtier.shadow_tables SET policy = wanted_policy, source = source_oid, source_schema = src.schema_name,
        made = made AND (history_schema, history_name) = (his.schema_name, his.table_name),
        source_name = src.table_name, history_schema = his.schema_name, history_name = his.table_name
      WHERE id = t.id;
  END IF;
  PERFORM pgtier.shadow_set_history(t.id);
  PERFORM pgtier.shadow_set_outbox(t.id);
  PERFORM pgtier.shadow_follow_columns(t.id);
  PERFORM pgtier.shadow_after_older(t.id, newest_epoch, newest_position);
  PERFORM pgtier.shadow_set_key(t.id);
  UPDATE pgtier.shadow_tables SET installed = true WHERE id = t.id AND NOT installed;
  UPDATE pgtier.shadow_state SET installed = false WHERE policy = t.policy AND policy <> wanted_policy AND retained
    AND NOT EXISTS (SELECT FROM pgtier.shadow_tables WHERE policy = t.policy AND installed);
  IF NOT (SELECT made FROM pgtier.shadow_tables WHERE id = t.id) THEN
    PERFORM pgtier.shadow_seal('shadow_try(integer)');
    EXECUTE 'SELECT pgtier.shadow_try($1)' INTO refused USING t.id;
    IF refused IS NOT NULL THEN
      RAISE EXCEPTION 'HistoryRefusesRows: %.% does not take what is written into it, so each write of the application would '
        'fail: %', his.schema_name, his.table_name, refused USING ERRCODE = '55000';
    END IF;
  END IF;
  PERFORM pgtier.shadow_set_function(t.id);
  IF NOT pgtier.shadow_triggers_agree(t.id) THEN
    PERFORM pgtier.shadow_lock(pgtier.shadow_relations(source_oid), 'SHARE ROW EXCLUSIVE');
    PERFORM pgtier.shadow_set_triggers(t.id);
  END IF;
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN t.id;
END
$fn$;

-- Takes a table out of its policy. The history stays, and what the outbox still holds is moved as before.
CREATE OR REPLACE FUNCTION pgtier.shadow_remove_table(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  g record;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true);
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  IF EXISTS (SELECT FROM pg_class WHERE oid = t.source) THEN
    PERFORM pgtier.shadow_lock(pgtier.shadow_relations(t.source), 'ACCESS EXCLUSIVE');
    FOR g IN SELECT tgrelid, tgname FROM pg_trigger WHERE tgrelid = ANY (pgtier.shadow_relations(t.source))
             AND tgname LIKE '00\_pgtier\_%' AND tgparentid = 0 AND NOT tgisinternal LOOP
      EXECUTE format('DROP TRIGGER %I ON %s', g.tgname, g.tgrelid::regclass);
    END LOOP;
  END IF;
  EXECUTE format('DROP FUNCTION IF EXISTS pgtier.%I()', 'shadow_' || wanted);
  UPDATE pgtier.shadow_tables SET installed = false WHERE id = wanted;
  PERFORM pgtier.shadow_own_ddl(false);
END
$fn$;

-- Drops the outbox of a table that left its policy, once it is empty. Says whether it is gone. One a transaction: each
-- takes as many locks as there may be shards, and the server has room for a few thousand.
DROP FUNCTION IF EXISTS pgtier.shadow_sweep(text);
CREATE OR REPLACE FUNCTION pgtier.shadow_sweep(wanted integer) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  place text;
  rows_left boolean;
BEGIN
  PERFORM set_config('lock_timeout', '600ms', true);
  SELECT p.outbox_sql INTO place FROM pgtier.shadow_tables AS t, pgtier.shadow_places(t.id) AS p
    WHERE t.id = wanted AND NOT t.installed AND p.outbox IS NOT NULL;
  IF NOT FOUND THEN RETURN true; END IF;
  -- Rows may still be under way to it.
  IF EXISTS (SELECT FROM pgtier.shadow_state AS s JOIN pgtier.shadow_tables AS t USING (policy)
             WHERE t.id = wanted AND s.payload_since IS NOT NULL) THEN RETURN false; END IF;
  PERFORM pgtier.shadow_hold_outbox(wanted);
  EXECUTE format('SELECT EXISTS (SELECT FROM %s)', place) INTO rows_left;
  IF NOT rows_left THEN EXECUTE format('DROP TABLE %s', place); END IF;
  RETURN NOT rows_left;
END
$fn$;

-- The policy is out of the database, but for what a later one goes on from: epoch, positions, histories.
CREATE OR REPLACE FUNCTION pgtier.shadow_end_policy(wanted text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  DELETE FROM pgtier.shadow_waits WHERE policy = wanted;
  UPDATE pgtier.shadow_state SET installed = false, tier = 'triggers', draining = false, waits_taken = false,
                                 payload = false, payload_since = NULL, payload_ending = false
    WHERE policy = wanted AND (installed OR tier <> 'triggers' OR draining);
  IF NOT EXISTS (SELECT FROM pgtier.shadow_state WHERE installed) AND
     (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    DROP EVENT TRIGGER IF EXISTS pgtier_shadow_ddl;
    DROP EVENT TRIGGER IF EXISTS pgtier_shadow_drop;
  END IF;
END
$fn$;
