-- A partitioned table stays fit to write into, and gets rid of what nobody is to keep any longer.

-- Partitions ahead; the names of those that it made. Nothing is locked against writers.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_ahead(wanted text, by_column text, every interval, ahead integer) RETURNS text[]
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  s record;
  like_part oid;
  made text[];
BEGIN
  SELECT * INTO s FROM pgtier.shadow_partition_state(wanted, by_column);
  IF s.state <> 'partitioned' OR s.upper IS NULL
     OR s.upper >= pgtier.shadow_period(clock_timestamp(), every) + (ahead + 1) * every THEN RETURN '{}'; END IF;
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  -- One maker at a time.
  EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', s.relation::regclass);
  SELECT * INTO s FROM pgtier.shadow_partition_state(wanted, by_column);
  SELECT p.relation INTO like_part FROM pgtier.shadow_partitions(s.relation) AS p ORDER BY p.upper DESC NULLS LAST LIMIT 1;
  made := pgtier.shadow_add_parts(s.relation, like_part, names.table_name, s.upper, every, ahead);
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN made;
END
$fn$;

-- Partitions whose rows are all older than `keep`; chunks of a hypertable that pgtier made.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_expired(wanted text, by_column text, keep interval)
  RETURNS TABLE (relation oid, name text, above oid)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT p.relation, p.relation::regclass::text, p.above
  FROM pgtier.shadow_partition_state(wanted, by_column) AS s, pgtier.shadow_partitions(s.relation) AS p
  WHERE s.state = 'partitioned' AND p.whole AND p.upper <= clock_timestamp() - keep
  UNION ALL
  SELECT k.relation, k.relation::regclass::text, s.relation
  FROM pgtier.shadow_partition_state(wanted, by_column) AS s, pgtier.shadow_chunks(s.relation) AS k
  WHERE s.state = 'hypertable' AND k.upper <= clock_timestamp() - keep
    AND (SELECT h.managed FROM pgtier.shadow_hypertable_state(s.relation) AS h)
$fn$;

-- Drops one of them: it is held against writers for some milliseconds. False: it is none (any more).
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_drop(wanted text, by_column text, keep interval, part oid) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s record;
  holder oid;
BEGIN
  SELECT * INTO s FROM pgtier.shadow_partition_state(wanted, by_column);
  IF s.state = 'hypertable' THEN RETURN pgtier.shadow_chunk_drop(s.relation, by_column, keep, part); END IF;
  SELECT e.above INTO holder FROM pgtier.shadow_partition_expired(wanted, by_column, keep) AS e WHERE e.relation = part;
  IF NOT FOUND OR s.parts < 2 THEN RETURN false; END IF;
  PERFORM pgtier.shadow_own_ddl(true);
  PERFORM pgtier.shadow_lock(CASE holder WHEN s.relation THEN ARRAY[holder, part] ELSE ARRAY[s.relation, holder, part] END,
                             'ACCESS EXCLUSIVE');
  EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', holder::regclass, part::regclass);
  EXECUTE format('DROP TABLE %s', part::regclass);
  -- What the past was split into goes with the last of it.
  IF holder <> s.relation AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = holder) THEN
    EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', s.relation::regclass, holder::regclass);
    EXECUTE format('DROP TABLE %s', holder::regclass);
  END IF;
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN true;
END
$fn$;

-- The whole table's statistics: autovacuum keeps those of the partitions alone.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_analyze(wanted text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  EXECUTE format('ANALYZE %s', (SELECT s.relation::regclass FROM pgtier.shadow_partition_state(wanted, '') AS s));
END
$fn$;
