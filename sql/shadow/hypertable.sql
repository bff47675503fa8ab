-- What there is of TimescaleDB and its hypertables, and how its functions are called. Nothing here needs the extension to be
-- there: its views are named in text only.

-- The schema of TimescaleDB's functions; NULL: this database has not the extension.
CREATE OR REPLACE FUNCTION pgtier.shadow_timescale_schema() RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT n.nspname::text FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
  WHERE e.extname = 'timescaledb'
$fn$;

-- Calls one of TimescaleDB's functions: 'drop_chunks(…)', its arguments literals. Gives how many rows it gave. They are mostly in
-- public, where the application may make another of the same name that fits the arguments better, and it would run with
-- the rights of who acts. So the call is bound to its function first, in one of our own, and made only when that is TimescaleDB's.
CREATE OR REPLACE FUNCTION pgtier.shadow_timescale_call(call text) RETURNS bigint
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  place text := pgtier.shadow_timescale_schema();
  bound text := format('pgtier.%I()', 'shadow_call_' || pg_backend_pid());
  stranger text;
  answered bigint;
BEGIN
  IF place IS NULL THEN RAISE EXCEPTION 'this database has no extension timescaledb' USING ERRCODE = '55000'; END IF;
  EXECUTE format('CREATE FUNCTION %s RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT pg_catalog.count(*) FROM %I.%s; END',
                 bound, place, call);
  EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', bound);
  SELECT d.refobjid::regprocedure::text INTO stranger FROM pg_depend AS d
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = bound::regprocedure AND d.refclassid = 'pg_proc'::regclass
      AND NOT EXISTS (
        SELECT FROM pg_depend AS m JOIN pg_extension AS e ON e.oid = m.refobjid AND e.extname = 'timescaledb'
        WHERE m.classid = 'pg_proc'::regclass AND m.objid = d.refobjid AND m.refclassid = 'pg_extension'::regclass
          AND m.deptype = 'e');
  IF FOUND THEN
    RAISE EXCEPTION '% would be called in place of TimescaleDB''s function of that name: drop or rename it', stranger
      USING ERRCODE = '55000';
  END IF;
  EXECUTE format('SELECT %s', bound) INTO answered;
  EXECUTE format('DROP FUNCTION %s', bound);
  RETURN answered;
END
$fn$;

-- Whether a table is one of TimescaleDB's hypertables.
CREATE OR REPLACE FUNCTION pgtier.shadow_is_hypertable(relation oid) RETURNS boolean
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  is_one boolean;
BEGIN
  IF to_regclass('timescaledb_information.hypertables') IS NULL THEN RETURN false; END IF;
  EXECUTE 'SELECT EXISTS (SELECT FROM timescaledb_information.hypertables AS h JOIN pg_class AS c ON c.oid = $1 '
          'JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE h.hypertable_schema = n.nspname '
          'AND h.hypertable_name = c.relname)' INTO is_one USING relation;
  RETURN is_one;
END
$fn$;

-- Hypertables that pgtier made, and looks after; others are left to their owners. By name, so that a database that was
-- restored from a dump knows them. `retired`, `late`, `catcher`: what the conversion has left to be dropped; NULL: nothing.
CREATE TABLE IF NOT EXISTS pgtier.shadow_hypertables (
  schema_name text NOT NULL,
  table_name  text NOT NULL,
  retired     text,
  late        text,
  catcher     text,
  made_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (schema_name, table_name)
);

-- A hypertable's chunks, the oldest first. `upper`: all rows are older; of a column without a time zone: as UTC.
CREATE OR REPLACE FUNCTION pgtier.shadow_chunks(hypertable oid)
  RETURNS TABLE (relation oid, upper timestamptz, compressed boolean)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  IF to_regclass('timescaledb_information.chunks') IS NULL THEN RETURN; END IF;
  RETURN QUERY EXECUTE
    'SELECT k.oid, i.range_end, i.is_compressed FROM timescaledb_information.chunks AS i '
    'JOIN pg_class AS c ON c.oid = $1 JOIN pg_namespace AS n ON n.oid = c.relnamespace '
    'JOIN pg_namespace AS m ON m.nspname = i.chunk_schema JOIN pg_class AS k ON k.relnamespace = m.oid AND k.relname = i.chunk_name '
    'WHERE i.hypertable_schema = n.nspname AND i.hypertable_name = c.relname ORDER BY i.range_end' USING hypertable;
END
$fn$;

-- What compressed chunks held when they were compressed: rows, and bytes now, for pg_class then knows of neither. Nothing where
-- TimescaleDB keeps it in another way: the number of rows is an estimate.
CREATE OR REPLACE FUNCTION pgtier.shadow_packed(hypertable oid)
  RETURNS TABLE (relation oid, packed_rows bigint, packed_bytes bigint)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  sizes oid := to_regclass('_timescaledb_catalog.compression_chunk_size');
  chunks oid := to_regclass('_timescaledb_catalog.chunk');
  found text;
BEGIN
  -- Some versions have a chunk by its name, others by its oid.
  found := CASE WHEN pgtier.shadow_has_column(chunks, 'relid') THEN 'k.oid = c.relid'
                WHEN pgtier.shadow_has_column(chunks, 'table_name')
                  THEN 'k.relname = c.table_name AND k.relnamespace::regnamespace::text = quote_ident(c.schema_name)' END;
  IF found IS NULL OR NOT pgtier.shadow_has_column(sizes, 'numrows_pre_compression') THEN RETURN; END IF;
  RETURN QUERY EXECUTE
    'SELECT k.oid, coalesce(z.numrows_pre_compression, 0), z.compressed_heap_size + z.compressed_toast_size '
    'FROM pg_inherits AS i JOIN pg_class AS k ON k.oid = i.inhrelid JOIN _timescaledb_catalog.chunk AS c ON ' || found ||
    ' JOIN _timescaledb_catalog.compression_chunk_size AS z ON z.chunk_id = c.id WHERE i.inhparent = $1' USING hypertable;
END
$fn$;

-- What a condition says of a hypertable beside shadow_partition_state. `managed`: pgtier made it; `unfinished`: what it
-- was before waits to be dropped; rows as estimated, bytes without indexes.
CREATE OR REPLACE FUNCTION pgtier.shadow_hypertable_state(hypertable oid, OUT managed boolean, OUT unfinished boolean,
    OUT chunks integer, OUT compressed integer, OUT chunk_seconds bigint, OUT rows_estimate bigint, OUT bytes bigint)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  managed := false; unfinished := false; chunks := 0; compressed := 0; rows_estimate := 0; bytes := 0;
  IF NOT pgtier.shadow_is_hypertable(hypertable) THEN RETURN; END IF;
  SELECT true, h.retired IS NOT NULL INTO managed, unfinished FROM pgtier.shadow_hypertables AS h
    JOIN pg_namespace AS n ON n.nspname = h.schema_name
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name WHERE c.oid = hypertable;
  managed := coalesce(managed, false); unfinished := coalesce(unfinished, false);
  SELECT count(*), count(*) FILTER (WHERE k.compressed),
         coalesce(sum(greatest(c.reltuples, 0)::bigint + coalesce(p.packed_rows, 0)), 0)::bigint,
         coalesce(sum(c.relpages::bigint * 8192 + coalesce(p.packed_bytes, 0)), 0)::bigint
    INTO chunks, compressed, rows_estimate, bytes
    FROM pgtier.shadow_chunks(hypertable) AS k JOIN pg_class AS c ON c.oid = k.relation
         LEFT JOIN pgtier.shadow_packed(hypertable) AS p ON p.relation = k.relation;
  EXECUTE 'SELECT extract(epoch FROM d.time_interval)::bigint FROM timescaledb_information.dimensions AS d '
          'JOIN pg_class AS c ON c.oid = $1 JOIN pg_namespace AS n ON n.oid = c.relnamespace '
          'WHERE d.hypertable_schema = n.nspname AND d.hypertable_name = c.relname AND d.dimension_number = 1'
    INTO chunk_seconds USING hypertable;
END
$fn$;

-- Drops one chunk of a hypertable that pgtier made, all of whose rows are older than `keep`: it is held against writers of
-- such rows for some milliseconds. False: it is none (any more).
CREATE OR REPLACE FUNCTION pgtier.shadow_chunk_drop(hypertable oid, by_column text, keep interval, chunk oid) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO'
AS $fn$
DECLARE
  ends timestamptz;
  at_type text;
BEGIN
  SELECT k.upper INTO ends FROM pgtier.shadow_chunks(hypertable) AS k
    WHERE k.relation = chunk AND k.upper <= clock_timestamp() - keep;
  IF NOT FOUND OR NOT (SELECT s.managed FROM pgtier.shadow_hypertable_state(hypertable) AS s) THEN RETURN false; END IF;
  SELECT format_type(atttypid, -1) INTO at_type FROM pg_attribute WHERE attrelid = hypertable AND attname = by_column;
  PERFORM pgtier.shadow_own_ddl(true);
  PERFORM pgtier.shadow_lock(ARRAY[chunk], 'ACCESS EXCLUSIVE');
  PERFORM pgtier.shadow_timescale_call(format('drop_chunks(%L::regclass, older_than => %L::%s)', hypertable::regclass,
                                              CASE at_type WHEN 'timestamp without time zone' THEN (ends AT TIME ZONE 'UTC')::text
                                                           ELSE ends::text END, at_type));
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN true;
END
$fn$;

-- Lets a hypertable that pgtier made have compressed chunks: it is held for some milliseconds, which no chunk is compressed
-- in. False: it does already, or is none.
CREATE OR REPLACE FUNCTION pgtier.shadow_compression_enable(wanted text) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  h oid;
BEGIN
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  IF h IS NULL OR NOT (SELECT s.managed FROM pgtier.shadow_hypertable_state(h) AS s) OR pgtier.shadow_compression_enabled(h) THEN
    RETURN false;
  END IF;
  IF (SELECT relrowsecurity FROM pg_class WHERE oid = h) THEN
    RAISE EXCEPTION 'RowSecurity: % has row-level security, which TimescaleDB compresses no table with: ALTER TABLE % DISABLE ROW LEVEL SECURITY, or take compression out of the policy',
      wanted, h::regclass USING ERRCODE = '55000';
  END IF;
  PERFORM pgtier.shadow_own_ddl(true);
  PERFORM pgtier.shadow_lock(ARRAY[h], 'ACCESS EXCLUSIVE');
  EXECUTE format('ALTER TABLE %s SET (timescaledb.compress)', h::regclass);
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN true;
END
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_compression_enabled(hypertable oid) RETURNS boolean
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  enabled boolean;
BEGIN
  EXECUTE 'SELECT i.compression_enabled FROM timescaledb_information.hypertables AS i JOIN pg_class AS c ON c.oid = $1 '
          'JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE i.hypertable_schema = n.nspname '
          'AND i.hypertable_name = c.relname' INTO enabled USING hypertable;
  RETURN enabled;
END
$fn$;

-- Compresses one chunk of a hypertable that pgtier made, where TimescaleDB's build can: writers of such old rows wait for
-- it. False: it is compressed, or none (any more).
CREATE OR REPLACE FUNCTION pgtier.shadow_chunk_compress(wanted text, chunk text) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  h oid;
BEGIN
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  IF h IS NULL OR NOT (SELECT s.managed FROM pgtier.shadow_hypertable_state(h) AS s)
     OR NOT EXISTS (SELECT FROM pgtier.shadow_chunks(h) AS k WHERE k.relation = to_regclass(chunk) AND NOT k.compressed) THEN
    RETURN false;
  END IF;
  IF NOT pgtier.shadow_compression_enabled(h) THEN
    RAISE EXCEPTION '% is not set up for compression: SELECT pgtier.shadow_compression_enable(%) first', wanted, quote_literal(wanted)
      USING ERRCODE = '55000';
  END IF;
  -- Rows that are truncated are written as visible to everybody. Where they are deleted instead, which settings of the
  -- database may ask for, who reads by an older snapshot would find them in neither place.
  PERFORM set_config(name, CASE name WHEN 'timescaledb.compress_truncate_behaviour' THEN 'truncate_only' ELSE 'off' END, true)
    FROM pg_settings WHERE name IN ('timescaledb.compress_truncate_behaviour', 'timescaledb.enable_delete_after_compression');
  PERFORM pgtier.shadow_own_ddl(true);
  PERFORM pgtier.shadow_timescale_call(format('compress_chunk(%L::regclass, if_not_compressed => true)', to_regclass(chunk)));
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN true;
END
$fn$;
