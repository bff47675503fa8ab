-- The outbox' rows move into the history: server-side, in the order of their positions, a batch a transaction.
--
-- A shard is a part of a source's keys. Whoever moves rows holds the shard's advisory lock (7047004, table * 64 + shard)
-- until the end of the transaction and takes its snapshot after it, so that a history never shows a row's later change
-- before an earlier one. SKIP LOCKED would not do: it takes what others have left, in any order.

-- The INSERT … SELECT of a batch. $1: the shards that are held; $2: rows at most.
CREATE OR REPLACE FUNCTION pgtier.shadow_drain_sql(wanted integer) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  places record;
  names text;
  clock text := 'at_utc';
  lost text;
BEGIN
  SELECT * INTO places FROM pgtier.shadow_places(wanted);
  SELECT coalesce(string_agg(', ' || quote_ident(attname), '' ORDER BY attnum), '') INTO names FROM pg_attribute
    WHERE attrelid = places.outbox AND attnum > 0 AND NOT attisdropped AND attname NOT IN
          ('epoch', 'position', 'at_utc', 'operation', 'actor', 'pgtier_shard', 'pgtier_also')
      AND pgtier.shadow_has_column(places.history, attname::text);
  IF (SELECT atttypid FROM pg_attribute WHERE attrelid = places.history AND attname = 'at_utc')
     = 'timestamp'::regtype THEN
    clock := 'timezone(''UTC'', at_utc)';
  END IF;
  -- Of columns that another history had: their rows are kept whole, beside what this one takes of them.
  SELECT coalesce(string_agg(format('gone.%I IS NOT NULL', attname), ' OR ' ORDER BY attnum), 'false') INTO lost
    FROM pg_attribute WHERE attrelid = places.outbox AND attnum > 0 AND NOT attisdropped AND attname NOT IN
         ('epoch', 'position', 'at_utc', 'operation', 'actor', 'pgtier_shard', 'pgtier_also')
      AND NOT pgtier.shadow_has_column(places.history, attname::text);
  -- A row that belongs to a shard of somebody else too (its key changed; TRUNCATE) ends the batch before it, as does one
  -- whose shard there is no longer: a function of before the key changed has written it.
  RETURN format($sql$
    WITH touched AS MATERIALIZED (
      SELECT ctid AS place, "position",
             CASE WHEN pgtier_shard = -1 OR greatest(pgtier_shard, pgtier_also) >= %5$s THEN cardinality($1) >= %5$s
                  ELSE pgtier_shard = ANY ($1) AND coalesce(pgtier_also = ANY ($1), true) END AS covered
      FROM %1$s WHERE pgtier_shard = ANY ($1) OR pgtier_also = ANY ($1) OR pgtier_shard = -1
                   OR greatest(pgtier_shard, pgtier_also) >= %5$s
      ORDER BY "position" LIMIT $2),
    gone AS (
      DELETE FROM %1$s WHERE ctid = ANY (ARRAY(
        SELECT place FROM touched
        WHERE "position" < coalesce((SELECT min("position") FROM touched WHERE NOT covered), 9223372036854775807)))
      RETURNING *),
    moved AS (
      INSERT INTO %2$s (epoch, "position", at_utc, operation, actor%3$s)
      SELECT epoch, "position", %4$s, operation, actor%3$s FROM gone ORDER BY "position"),
    kept AS (
      INSERT INTO pgtier.shadow_dead_letters (policy, source, epoch, "position", payload, error)
      SELECT t.policy, format('%%I.%%I', t.source_schema, t.source_name), gone.epoch, gone."position",
             convert_to(to_jsonb(gone)::text, 'UTF8'), 'the history lacks columns of this row; it has the others'
      FROM gone, pgtier.shadow_tables AS t WHERE t.id = %6$s AND (%7$s))
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(at_utc)), 0), (SELECT count(*) FROM touched)
    FROM gone$sql$,
    places.outbox_sql, places.history_sql, names, clock, (SELECT shards FROM pgtier.shadow_tables WHERE id = wanted),
    wanted, lost);
END
$fn$;

-- Puts the first row of these shards aside: it can't be written into the history. Nothing else may be lost with it.
CREATE OR REPLACE FUNCTION pgtier.shadow_bury(wanted integer, held smallint[], why text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  EXECUTE format($sql$
    WITH gone AS (DELETE FROM %1$s WHERE "position" = (
      SELECT "position" FROM %1$s WHERE pgtier_shard = ANY ($1) OR pgtier_also = ANY ($1) OR pgtier_shard = -1
        OR greatest(pgtier_shard, pgtier_also) >= (SELECT shards FROM pgtier.shadow_tables WHERE id = $3)
      ORDER BY "position" LIMIT 1) RETURNING *)
    INSERT INTO pgtier.shadow_dead_letters (policy, source, epoch, "position", payload, error)
    SELECT t.policy, format('%%I.%%I', t.source_schema, t.source_name), gone.epoch, gone."position",
           convert_to(to_jsonb(gone)::text, 'UTF8'), $2
    FROM gone, pgtier.shadow_tables AS t WHERE t.id = $3$sql$,
    (SELECT outbox_sql FROM pgtier.shadow_places(wanted))) USING held, why, wanted;
END
$fn$;

-- Moves a batch of one source: at most `want_rows`, of at most a `workers`-th of its shards, or with `everything` of all
-- of them, for which it waits. `moved`: rows that went into the history; `oldest`: seconds for which the oldest of them
-- had waited; `buried`: rows that went into shadow_dead_letters; `next`: 'rest' nothing more to do, 'again' call again,
-- 'busy' others hold the shards, 'everything' the next row belongs to several shards: call again with `everything`, in
-- another transaction (who holds a shard waits for none, or two would wait for each other). READ COMMITTED is the
-- caller's: each statement sees what was committed before it began, hence after the locks were taken.
CREATE OR REPLACE FUNCTION pgtier.shadow_drain(wanted integer, want_rows integer, workers integer, everything boolean,
                                               OUT moved bigint, OUT oldest double precision, OUT buried integer,
                                               OUT next text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $fn$
DECLARE
  n integer;
  first integer;
  s integer;
  held smallint[] := '{}';
  batch integer := want_rows;
  seen bigint;
BEGIN
  moved := 0; oldest := 0; buried := 0; next := 'rest';
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'shadow_drain needs READ COMMITTED' USING ERRCODE = '25001';
  END IF;
  SELECT shards INTO n FROM pgtier.shadow_tables WHERE id = wanted;
  IF NOT FOUND THEN RETURN; END IF;
  -- Workers begin at different places, so that they seldom ask for what another has.
  first := CASE WHEN everything THEN 0 ELSE floor(random() * n) END;
  FOR i IN 0 .. n - 1 LOOP
    s := (first + i) % n;
    IF everything THEN
      PERFORM pg_advisory_xact_lock(7047004, wanted * 64 + s);
      held := held || s::smallint;
    ELSIF pg_try_advisory_xact_lock(7047004, wanted * 64 + s) THEN
      held := held || s::smallint;
    END IF;
    EXIT WHEN NOT everything AND cardinality(held) * workers >= n;
  END LOOP;
  IF held = '{}' THEN
    next := 'busy';
    RETURN;
  END IF;
  -- DDL may have changed these while the locks were waited for.
  IF pgtier.shadow_oid('pgtier', 'outbox_' || wanted) IS NULL THEN RETURN; END IF;
  -- Who holds the history for long shall not keep the worker from the other tables.
  PERFORM set_config('lock_timeout', '1s', true);
  LOOP
    BEGIN
      EXECUTE pgtier.shadow_drain_sql(wanted) INTO moved, oldest, seen USING held, batch;
      next := CASE WHEN seen = 0 THEN 'rest' WHEN moved = 0 THEN 'everything'
                   WHEN moved < seen OR seen >= batch THEN 'again' ELSE 'rest' END;
      RETURN;
    EXCEPTION
      -- What may pass, or befalls every row (locks, space, rights, a missing column), is the caller's to see. The rest
      -- sticks to a row: a value that an index can't take, or what the history's triggers and checks make of it.
      WHEN data_exception OR integrity_constraint_violation OR raise_exception OR program_limit_exceeded
           OR datatype_mismatch OR case_not_found OR cardinality_violation OR no_data_found OR too_many_rows
           OR with_check_option_violation OR triggered_action_exception OR external_routine_exception
           OR external_routine_invocation_exception THEN
        IF batch > 1 THEN
          batch := batch / 2;
        ELSE
          PERFORM pgtier.shadow_bury(wanted, held, sqlerrm);
          moved := 0; oldest := 0; buried := 1; next := 'again';
          RETURN;
        END IF;
    END;
  END LOOP;
END
$fn$;

-- The policy's outboxes: all that there are, also of tables that have left it.
CREATE OR REPLACE FUNCTION pgtier.shadow_outboxes(wanted text) RETURNS TABLE (id integer, source text)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT t.id, format('%I.%I', t.source_schema, t.source_name)
  FROM pgtier.shadow_tables AS t, pgtier.shadow_places(t.id) AS p
  WHERE t.policy = wanted AND p.outbox IS NOT NULL ORDER BY t.id
$fn$;

-- How many rows an outbox holds, counted up to `most`, and for how many seconds the first has waited.
CREATE OR REPLACE FUNCTION pgtier.shadow_queue(wanted integer, most integer, OUT depth bigint,
                                               OUT oldest double precision)
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET enable_seqscan = off SET jit = off
AS $fn$
DECLARE
  place text := (SELECT outbox_sql FROM pgtier.shadow_places(wanted) WHERE outbox IS NOT NULL);
BEGIN
  depth := 0; oldest := 0;
  IF place IS NULL THEN RETURN; END IF;
  EXECUTE format('SELECT count(*) FROM (SELECT FROM %s ORDER BY "position" LIMIT $1) AS q', place) INTO depth USING most;
  EXECUTE format('SELECT coalesce(extract(epoch FROM clock_timestamp() - (SELECT at_utc FROM %s ORDER BY "position" '
                 'LIMIT 1)), 0)', place) INTO oldest;
END
$fn$;

-- A batch of one source, for who acts: shadow_drain is pgtier_shadow's. See shadow_seal.
CREATE OR REPLACE FUNCTION pgtier.shadow_drain_sealed(wanted integer, OUT moved bigint, OUT buried integer, OUT next text)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  PERFORM pgtier.shadow_seal('shadow_drain(integer, integer, integer, boolean)',
                             'SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off');
  EXECUTE 'SELECT d.moved, d.buried, d.next FROM pgtier.shadow_drain($1, 1000, 1, true) AS d'
    INTO moved, buried, next USING wanted;
END
$fn$;

-- All that the policy's outboxes hold, as long as it lasts; gives the number of rows. For who removes a policy.
CREATE OR REPLACE FUNCTION pgtier.shadow_drain_all(wanted text) RETURNS bigint
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT coalesce(sum(d.moved + d.buried), 0)::bigint
  FROM pgtier.shadow_outboxes(wanted) AS o, pgtier.shadow_drain_sealed(o.id) AS d
$fn$;
