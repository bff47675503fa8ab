-- Partitions by time of histories, and of other tables that only grow: what there is, and what stands in the way. Periods
-- are counted from a Monday, in UTC; a table is named as SQL writes it, without a schema: public.

-- The start of the period that a time falls into.
CREATE OR REPLACE FUNCTION pgtier.shadow_period(at timestamptz, every interval) RETURNS timestamptz
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC'
AS $fn$
  SELECT date_bin(every, at, '2001-01-01 00:00:00+00')
$fn$;

-- A time as a bound's literal, for columns with and without a time zone (they hold UTC).
CREATE OR REPLACE FUNCTION pgtier.shadow_bound(at timestamptz) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT quote_literal(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00')
$fn$;

-- The column that a table is partitioned by; NULL: not by the range of one column.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_column(parent oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT a.attname::text FROM pg_partitioned_table AS p
  JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
  WHERE p.partrelid = parent AND p.partstrat = 'r' AND p.partnatts = 1
$fn$;

-- The partitions of a table that hold rows, also those of a partition that is partitioned by the same column. `lower` and
-- `upper` are NULL for no bound; `whole` is false for what has no range of one column: a default partition, lists, hashes.
-- `above` is what the partition is attached to.
CREATE OR REPLACE FUNCTION pgtier.shadow_partitions(parent oid)
  RETURNS TABLE (relation oid, lower timestamptz, upper timestamptz, whole boolean, above oid)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO'
AS $fn$
  WITH RECURSIVE tree AS (
    SELECT inhrelid AS oid, inhparent AS above FROM pg_inherits WHERE inhparent = parent
    UNION ALL
    SELECT i.inhrelid, i.inhparent FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid
    WHERE pgtier.shadow_partition_column(tree.oid) = pgtier.shadow_partition_column(parent))
  SELECT c.oid, CASE WHEN b.m[1] LIKE '''%' THEN trim(b.m[1], '''')::timestamptz END,
         CASE WHEN b.m[2] LIKE '''%' THEN trim(b.m[2], '''')::timestamptz END, b.m IS NOT NULL, tree.above
  FROM tree JOIN pg_class AS c ON c.oid = tree.oid
  CROSS JOIN LATERAL (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid),
    '^FOR VALUES FROM \((MINVALUE|''[-0-9:.+ ]+'')\) TO \((MAXVALUE|''[-0-9:.+ ]+'')\)$') AS m) AS b
  WHERE pgtier.shadow_partition_column(c.oid) IS DISTINCT FROM pgtier.shadow_partition_column(parent)
  ORDER BY b.m IS NULL, 2 NULLS FIRST
$fn$;

-- A free name of a table: `base`, cut so that `suffix` fits, with _2, _3, … where there is one of that name.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_name(in_schema text, base text, suffix text) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  stem text := base;
  free text;
  n integer := 1;
BEGIN
  WHILE octet_length(stem) + octet_length(suffix) > 58 LOOP stem := left(stem, -1); END LOOP;
  free := stem || suffix;
  WHILE pgtier.shadow_oid(in_schema, free) IS NOT NULL LOOP
    n := n + 1;
    free := stem || suffix || '_' || n;
  END LOOP;
  RETURN free;
END
$fn$;

-- What stands in the way of partitioning a table by `by_column`, from the catalogue alone. Nothing for one that is.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_findings(wanted text, by_column text)
  RETURNS TABLE (code text, object text, message text, cure text)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  h record;
  at_type oid;
  at_num smallint;
BEGIN
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  SELECT c.* INTO h FROM pg_class AS c WHERE c.oid = pgtier.shadow_oid(names.schema_name, names.table_name);
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'NoTable', wanted, format('there is no table %s', wanted), 'create it, or name another';
    RETURN;
  END IF;
  IF h.relkind = 'p' THEN
    RETURN QUERY SELECT 'PartitionedOtherwise', wanted,
        format('%s is partitioned by %s', wanted, pg_get_partkeydef(h.oid)),
        format('nothing, where somebody else looks after its partitions: then leave it out; else name the column that it is partitioned by')
      WHERE pgtier.shadow_partition_column(h.oid) IS DISTINCT FROM by_column;
    RETURN QUERY SELECT 'DefaultPartition', p.relation::regclass::text,
        format('%s has a default partition, which holds rows whose period can''t be made any more', wanted),
        format('move its rows into partitions, then ALTER TABLE %s DETACH PARTITION %s', h.oid::regclass, p.relation::regclass)
      FROM pgtier.shadow_partitions(h.oid) AS p
      WHERE NOT p.whole AND pgtier.shadow_partition_column(h.oid) = by_column
        AND pg_get_expr((SELECT relpartbound FROM pg_class WHERE oid = p.relation), p.relation) = 'DEFAULT';
    RETURN;
  END IF;
  SELECT attnum, atttypid INTO at_num, at_type FROM pg_attribute
    WHERE attrelid = h.oid AND attname = by_column AND attnum > 0 AND NOT attisdropped;
  RETURN QUERY
    SELECT f.code, wanted, f.message, f.cure FROM (VALUES
      ('NotATable', h.relkind <> 'r' OR h.relpersistence <> 'p', format('%s is no ordinary table', wanted),
       'name an ordinary table that is logged'),
      ('IsHypertable', pgtier.shadow_is_hypertable(h.oid), format('%s is a hypertable of TimescaleDB''s already', wanted),
       'nothing: its chunks, compression and retention are TimescaleDB''s policies'),
      ('PartOfAnother', h.relispartition OR EXISTS (SELECT FROM pg_inherits WHERE h.oid IN (inhparent, inhrelid)),
       format('%s is a partition, or inherits, or is inherited from', wanted), 'name a table of its own'),
      ('NoPartitionColumn', at_num IS NULL, format('%s has no column %s', wanted, by_column),
       'set partitioning.column to a time that it has'),
      ('PartitionColumnType', at_type NOT IN ('timestamptz'::regtype, 'timestamp'::regtype),
       format('%s.%s is of type %s', wanted, by_column, format_type(at_type, -1)),
       'take a column of type timestamptz, or timestamp that holds UTC'))
      AS f (code, found, message, cure) WHERE f.found;
  RETURN QUERY
    SELECT 'KeyWithoutColumn', i.indexrelid::regclass::text,
           format('%s is unique without %s: over partitions PostgreSQL keeps a key unique only with the column that they are made by',
                  i.indexrelid::regclass, by_column),
           CASE WHEN k.oid IS NULL THEN format('where rows need not be unique by it: DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass)
                ELSE format('where rows need not be unique by it: ALTER TABLE %s DROP CONSTRAINT %I; or make it one that has %I too',
                            h.oid::regclass, k.conname, by_column) END
    FROM pg_index AS i LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = h.oid
    WHERE i.indrelid = h.oid AND (i.indisunique OR i.indisexclusion)
      AND (i.indisexclusion OR at_num IS NULL OR NOT at_num = ANY (i.indkey::smallint[]));
  RETURN QUERY
    SELECT 'InvalidIndex', indexrelid::regclass::text, format('%s is invalid: CREATE INDEX CONCURRENTLY was broken off', indexrelid::regclass),
           format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass)
    FROM pg_index WHERE indrelid = h.oid AND NOT indisvalid;
  RETURN QUERY
    SELECT CASE WHEN k.contype <> 'f' THEN 'ConstraintNotValid' WHEN k.conrelid = h.oid THEN 'ForeignKey' ELSE 'ReferencedByKey' END,
           k.conrelid::regclass::text,
           format('%s has %s', k.conrelid::regclass, CASE WHEN k.contype <> 'f' THEN format('the constraint %I, which was not validated', k.conname)
                                                          ELSE format('a foreign key, %I, to %s', k.conname, k.confrelid::regclass) END),
           CASE WHEN k.contype <> 'f' THEN format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname)
                ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname) END
    FROM pg_constraint AS k
    WHERE (k.contype = 'f' AND h.oid IN (k.conrelid, k.confrelid))
       OR (k.conrelid = h.oid AND k.contype = 'c' AND NOT k.convalidated AND k.conname <> 'pgtier_partition_bound');
  RETURN QUERY
    SELECT 'IdentityColumn', format('%s.%s', wanted, a.attname), format('%s.%I is an identity column', wanted, a.attname),
           format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY, and give it a sequence as default', h.oid::regclass, a.attname)
    FROM pg_attribute AS a WHERE a.attrelid = h.oid AND a.attidentity <> '' AND NOT a.attisdropped;
  RETURN QUERY
    SELECT 'TransitionTables', g.tgname::text, format('trigger %I of %s has transition tables', g.tgname, wanted),
           'make it a trigger of statements, or drop it'
    FROM pg_trigger AS g WHERE g.tgrelid = h.oid AND NOT g.tgisinternal AND (g.tgoldtable IS NOT NULL OR g.tgnewtable IS NOT NULL)
      AND (g.tgtype & 1) = 1;
  -- What would go on meaning the old part alone. Views are made anew, so are policies and triggers.
  RETURN QUERY
    SELECT 'Dependent', pg_describe_object(d.classid, d.objid, 0),
           format('%s depends on %s', pg_describe_object(d.classid, d.objid, 0), wanted),
           'drop it, and make it again when the table has partitions'
    FROM (SELECT DISTINCT classid, objid FROM pg_depend
          WHERE refclassid = 'pg_class'::regclass AND refobjid = h.oid AND deptype = 'n'
            AND classid NOT IN ('pg_policy'::regclass, 'pg_publication_rel'::regclass, 'pg_trigger'::regclass,
                                'pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_statistic_ext'::regclass)) AS d
    WHERE NOT (d.classid = 'pg_class'::regclass)
      AND NOT (d.classid = 'pg_rewrite'::regclass AND EXISTS (
        SELECT FROM pg_rewrite AS r WHERE r.oid = d.objid AND r.ev_class = h.oid))
      AND NOT (d.classid = 'pg_rewrite'::regclass AND EXISTS (
        SELECT FROM pg_rewrite AS r JOIN pg_class AS v ON v.oid = r.ev_class WHERE r.oid = d.objid AND v.relkind = 'v'));
  RETURN QUERY
    SELECT 'Rule', r.rulename::text, format('rule %I of %s', r.rulename, wanted), format('DROP RULE %I ON %s', r.rulename, h.oid::regclass)
    FROM pg_rewrite AS r WHERE r.ev_class = h.oid;
  RETURN QUERY
    SELECT 'PublishedInPart', b.pubname::text,
           format('publication %I names %s with a WHERE or a list of columns', b.pubname, wanted),
           format('publish %s as a whole', wanted)
    FROM pg_publication_rel AS p JOIN pg_publication AS b ON b.oid = p.prpubid
    WHERE p.prrelid = h.oid AND (p.prqual IS NOT NULL OR p.prattrs IS NOT NULL);
END
$fn$;

-- A table under way to its partitions: what was prepared, and up to when new rows fit (a CHECK on the table says so).
CREATE TABLE IF NOT EXISTS pgtier.shadow_partitioning (
  relation    oid         PRIMARY KEY,  -- the table that becomes the first partition
  shell       oid         NOT NULL,     -- the table that takes its name
  upper       timestamptz NOT NULL,     -- of the first partition
  every       interval    NOT NULL,
  fingerprint text        NOT NULL,     -- of columns, indexes and constraints that the shell was made by
  begun_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- All that a plan or a condition says of a table. `state`: 'missing', 'plain', 'begun' (a bound stands on the plain
-- table, `proven` once each row is known to fit), 'copying' (a hypertable is made of it), 'partitioned', 'hypertable', 'other' (partitioned by something else). `upper`: rows fit until then; `oldest`:
-- the first partition's end; `big`: a first partition without a lower bound, and whether its end is past.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_state(wanted text, by_column text, OUT state text, OUT relation oid,
    OUT rows_estimate bigint, OUT bytes bigint, OUT parts integer, OUT upper timestamptz, OUT oldest timestamptz,
    OUT big oid, OUT big_past boolean, OUT proven boolean)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  kind "char";
BEGIN
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  relation := pgtier.shadow_oid(names.schema_name, names.table_name);
  rows_estimate := 0; bytes := 0; parts := 0; proven := false; state := 'missing';
  IF relation IS NULL THEN RETURN; END IF;
  SELECT relkind, greatest(reltuples, 0)::bigint, relpages * 8192::bigint INTO kind, rows_estimate, bytes FROM pg_class WHERE oid = relation;
  IF kind <> 'p' THEN
    SELECT p.upper, k.convalidated INTO upper, proven FROM pgtier.shadow_partitioning AS p
      JOIN pg_constraint AS k ON k.conrelid = p.relation AND k.conname = 'pgtier_partition_bound'
      WHERE p.relation = shadow_partition_state.relation;
    proven := coalesce(proven, false);
    state := CASE WHEN upper IS NOT NULL THEN 'begun'
                  WHEN EXISTS (SELECT FROM pgtier.shadow_splits AS c WHERE c.relation = shadow_partition_state.relation) THEN 'copying'
                  WHEN pgtier.shadow_is_hypertable(relation) THEN 'hypertable' ELSE 'plain' END;
    RETURN;
  END IF;
  SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, coalesce(sum(c.relpages), 0) * 8192
    INTO rows_estimate, bytes
    FROM pg_partition_tree(relation::regclass) AS t JOIN pg_class AS c ON c.oid = t.relid WHERE t.isleaf;
  SELECT count(*), CASE WHEN bool_or(p.upper IS NULL AND p.whole) THEN 'infinity' ELSE max(p.upper) END, min(p.upper)
    INTO parts, upper, oldest FROM pgtier.shadow_partitions(relation) AS p;
  state := CASE WHEN pgtier.shadow_partition_column(relation) = by_column THEN 'partitioned' ELSE 'other' END;
  SELECT p.relation, p.upper <= clock_timestamp() INTO big, big_past
    FROM pgtier.shadow_partitions(relation) AS p WHERE p.whole AND p.lower IS NULL AND p.above = shadow_partition_state.relation;
END
$fn$;
