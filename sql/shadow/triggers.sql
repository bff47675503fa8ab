-- Locks, and the triggers on the sources and their parts; how a source's rows are spread over shards.

-- What a statement may address and a TRUNCATE trigger is put on: the leaves of a partitioned table, else the table.
CREATE OR REPLACE FUNCTION pgtier.shadow_leaf_oids(source oid) RETURNS SETOF oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT source WHERE EXISTS (SELECT FROM pg_class WHERE oid = source AND relkind = 'r')
  UNION
  SELECT relid::oid FROM pg_partition_tree(source::regclass) WHERE isleaf
$fn$;

-- The source and all that is below it, the source first: in this order they are locked.
CREATE OR REPLACE FUNCTION pgtier.shadow_relations(source oid) RETURNS oid[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT source || coalesce(array_agg(relid::oid ORDER BY level, relid::oid) FILTER (WHERE relid::oid <> source), '{}')
  FROM pg_partition_tree(source::regclass)
$fn$;

-- Locks relations one by one within one budget over all of them, or fails with lock_not_available (55P03) and says who
-- is in the way. It does not even queue behind a transaction that is older than a second: whoever queues holds up all
-- that come after. ONLY, for LOCK TABLE on a partitioned table waits lock_timeout anew for each part.
CREATE OR REPLACE FUNCTION pgtier.shadow_lock(relations oid[], lock_mode text, budget interval DEFAULT '600 milliseconds')
  RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  ends timestamptz := clock_timestamp() + budget;
  r oid;
  in_way text;
  left_ms integer;
  -- Who waits longer than this is looked at for a deadlock, and is the one that ends: let it be this transaction. It is
  -- also how long the server waits before it ends an autovacuum that is in the way.
  quick boolean := has_parameter_privilege(current_user, 'deadlock_timeout', 'SET');
BEGIN
  IF quick THEN PERFORM set_config('deadlock_timeout', '100ms', true); END IF;
  SELECT CASE WHEN l.pid IS NULL THEN format('a prepared transaction holds %s', l.relation::regclass)
              ELSE format('process %s holds %s, its transaction began %s ago', l.pid, l.relation::regclass,
                          date_trunc('second', clock_timestamp() - a.xact_start)) END INTO in_way
    FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.relation = ANY (relations) AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND (lock_mode = 'ACCESS EXCLUSIVE' OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
      AND (l.pid IS NULL OR a.xact_start < clock_timestamp() - interval '1 second')
      -- One against wraparound is not ended for anybody.
      AND NOT (quick AND a.backend_type IS NOT DISTINCT FROM 'autovacuum worker'
               AND a.query NOT LIKE '%to prevent wraparound%')
    ORDER BY a.xact_start LIMIT 1;
  IF FOUND THEN RAISE EXCEPTION '%', in_way USING ERRCODE = '55P03'; END IF;
  FOREACH r IN ARRAY relations LOOP
    left_ms := extract(epoch FROM ends - clock_timestamp()) * 1000;
    IF left_ms < 1 THEN
      RAISE EXCEPTION 'locks on % tables took longer than %', cardinality(relations), budget USING ERRCODE = '55P03';
    END IF;
    PERFORM set_config('lock_timeout', left_ms || 'ms', true);
    EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', r::regclass, lock_mode);
  END LOOP;
  PERFORM set_config('lock_timeout', greatest(1, round(extract(epoch FROM ends - clock_timestamp()) * 1000)) || 'ms', true);
END
$fn$;

-- All that a policy's tables consist of, in the order in which it is locked.
CREATE OR REPLACE FUNCTION pgtier.shadow_policy_relations(wanted text) RETURNS oid[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT coalesce(array_agg(r ORDER BY k.source, n), '{}')
  FROM pgtier.shadow_tables AS k, unnest(pgtier.shadow_relations(k.source)) WITH ORDINALITY AS u (r, n)
  WHERE k.policy = wanted AND k.installed
$fn$;

-- Whether the triggers are as the tier wants them, on each part of the source.
CREATE OR REPLACE FUNCTION pgtier.shadow_triggers_agree(wanted integer) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT NOT EXISTS (
    SELECT FROM pgtier.shadow_tables AS t JOIN pgtier.shadow_state AS s USING (policy),
                unnest(pgtier.shadow_relations(t.source)) AS r (relation)
    WHERE t.id = wanted AND NOT EXISTS (
      SELECT FROM pg_trigger AS g
      WHERE g.tgrelid = r.relation AND g.tgname = '00_pgtier_shadow'
        AND g.tgfoid = pgtier.shadow_function_oid(wanted)
        AND g.tgenabled = CASE s.tier WHEN 'cdc' THEN 'D' ELSE 'A' END))
  AND NOT EXISTS (
    SELECT FROM pgtier.shadow_tables AS t JOIN pgtier.shadow_state AS s USING (policy),
                pgtier.shadow_leaf_oids(t.source) AS r (relation)
    WHERE t.id = wanted AND NOT EXISTS (
      SELECT FROM pg_trigger AS g
      WHERE g.tgrelid = r.relation AND g.tgname = '00_pgtier_shadow_truncate'
        AND g.tgfoid = pgtier.shadow_function_oid(wanted)
        AND g.tgenabled = CASE s.tier WHEN 'cdc' THEN 'D' ELSE 'A' END))
$fn$;

-- Makes the triggers what the tier wants. The caller holds SHARE ROW EXCLUSIVE on what lacks one, or has another state
-- than the tier wants: nothing else is touched, so that a partition that is attached locks no other. (The server gives
-- it its row trigger, in the state of the parent's.) The row trigger's name sorts before the application's: an AFTER
-- trigger of hers that updates the row again would otherwise be recorded first.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_triggers(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  wants "char";
  r oid;
  g record;
BEGIN
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  SELECT CASE tier WHEN 'cdc' THEN 'D' ELSE 'A' END INTO STRICT wants FROM pgtier.shadow_state WHERE policy = t.policy;
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t.source AND tgname = '00_pgtier_shadow'
                 AND tgfoid = pgtier.shadow_function_oid(wanted)) THEN
    EXECUTE format('CREATE TRIGGER "00_pgtier_shadow" AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
                   'EXECUTE FUNCTION pgtier.%I()', t.source::regclass, 'shadow_' || wanted);
  END IF;
  FOR r IN SELECT pgtier.shadow_leaf_oids(t.source) LOOP
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r AND tgname = '00_pgtier_shadow_truncate'
                   AND tgfoid = pgtier.shadow_function_oid(wanted)) THEN
      EXECUTE format('CREATE TRIGGER "00_pgtier_shadow_truncate" AFTER TRUNCATE ON %s FOR EACH STATEMENT '
                     'EXECUTE FUNCTION pgtier.%I()', r::regclass, 'shadow_' || wanted);
    END IF;
  END LOOP;
  FOR g IN SELECT tgrelid, tgname FROM pg_trigger
           WHERE tgname IN ('00_pgtier_shadow', '00_pgtier_shadow_truncate') AND tgenabled <> wants
             AND tgfoid = pgtier.shadow_function_oid(wanted)
             AND tgrelid = ANY (pgtier.shadow_relations(t.source)) LOOP
    EXECUTE format('ALTER TABLE ONLY %s %s TRIGGER %I', g.tgrelid::regclass,
                   CASE wants WHEN 'D' THEN 'DISABLE' ELSE 'ENABLE ALWAYS' END, g.tgname);
  END LOOP;
  -- A partition that was detached has lost its row trigger; that of TRUNCATE was its own.
  FOR r IN SELECT tgrelid FROM pg_trigger WHERE tgname = '00_pgtier_shadow_truncate'
           AND tgfoid = pgtier.shadow_function_oid(wanted)
           AND tgrelid NOT IN (SELECT pgtier.shadow_leaf_oids(t.source)) LOOP
    EXECUTE format('DROP TRIGGER "00_pgtier_shadow_truncate" ON %s', r::regclass);
  END LOOP;
END
$fn$;

-- The primary key's columns, where their types can be hashed, and how many shards that makes. Of a deferrable one two
-- rows may change places in one transaction: what happens to a value is then in no order that shards would keep.
CREATE OR REPLACE FUNCTION pgtier.shadow_key(source oid, OUT key text[], OUT shards smallint)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  nulls text;
BEGIN
  SELECT array_agg(a.attname::text ORDER BY k.n), string_agg('NULL::' || format_type(pgtier.shadow_type(a.atttypid), -1), ', ' ORDER BY k.n)
    INTO key, nulls
    FROM pg_index AS i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, n)
    JOIN pg_attribute AS a ON a.attnum = k.attnum
    WHERE i.indrelid = source AND i.indisprimary AND i.indimmediate AND a.attrelid = source AND k.n <= i.indnkeyatts;
  shards := 1;
  IF key IS NULL OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = source AND attname = ANY (key)
                            AND attgenerated <> '') THEN
    key := '{}';
    RETURN;
  END IF;
  BEGIN
    EXECUTE format('SELECT hash_record_extended(ROW(%s), 0)', nulls);
    shards := 8;
  EXCEPTION WHEN undefined_function THEN
    key := '{}';
  END;
END
$fn$;

-- Keeps the key up to date. Rows that were queued under another one belong to all shards: -1.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_key(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  found record;
BEGIN
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  SELECT * INTO found FROM pgtier.shadow_key(t.source);
  IF (t.key, t.shards) IS NOT DISTINCT FROM (found.key, found.shards) THEN RETURN; END IF;
  UPDATE pgtier.shadow_tables SET key = found.key, shards = found.shards WHERE id = wanted;
  PERFORM pgtier.shadow_hold_outbox(wanted);
  EXECUTE format('UPDATE pgtier.%I SET pgtier_shard = -1, pgtier_also = NULL', 'outbox_' || wanted);
END
$fn$;

-- What one part of a table lacks for tier cdc, as a sentence; NULL: nothing. What it lacks is not in the log.
CREATE OR REPLACE FUNCTION pgtier.shadow_table_lacks_cdc(wanted integer) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT CASE WHEN t.new_row IS NOT NULL OR t.old_row IS NOT NULL
              THEN format('%I.%I records whole rows as JSON, which cdc does not write', t.history_schema, t.history_name)
              ELSE format('%s is not ready for cdc', leaf::regclass) END
  FROM pgtier.shadow_tables AS t JOIN pgtier.shadow_state AS s USING (policy), pgtier.shadow_leaf_oids(t.source) AS leaf
  WHERE t.id = wanted
    AND (t.new_row IS NOT NULL OR t.old_row IS NOT NULL
         OR NOT EXISTS (SELECT FROM pg_class WHERE oid = leaf AND relreplident = 'f')
         OR NOT EXISTS (SELECT FROM pg_publication_rel AS p JOIN pg_publication AS b ON b.oid = p.prpubid
                        WHERE b.pubname = pgtier.shadow_publication(s.slot) AND p.prrelid = leaf)) LIMIT 1
$fn$;
