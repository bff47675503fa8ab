-- Whether the application's table of events is what pgtier counts and partitions, read from the catalogue alone. $1: its
-- name; $2: the role that counts, or ''. One row: its state, and what is wrong with it (NULL: nothing).
WITH named AS (
  SELECT CASE WHEN cardinality(p) = 1 THEN 'public' ELSE p[1] END AS schema_name, p[cardinality(p)] AS table_name
  FROM (SELECT parse_ident($1)) AS i (p)
),
found AS (
  SELECT n.*, format('%I.%I', n.schema_name, n.table_name) AS name, c.oid, c.relkind, c.relpersistence, c.relowner,
         r.oid AS reader
  FROM named AS n
  LEFT JOIN pg_class AS c ON c.oid = to_regclass(format('%I.%I', n.schema_name, n.table_name))
  LEFT JOIN pg_roles AS r ON r.rolname = $2
),
clock AS (
  SELECT f.oid, (SELECT format_type(a.atttypid, -1) FROM pg_attribute AS a WHERE a.attrelid = f.oid
                 AND a.attname = 'at_utc' AND a.attnum > 0 AND NOT a.attisdropped) AS type
  FROM found AS f
)
SELECT f.name, f.oid IS NOT NULL AS exists,
       greatest(coalesce((SELECT sum(greatest(l.reltuples, 0)) FROM pg_partition_tree(f.oid::regclass) AS i
                          JOIN pg_class AS l ON l.oid = i.relid WHERE i.isleaf),
                         (SELECT reltuples FROM pg_class WHERE oid = f.oid), 0), 0)::bigint AS estimate,
       f.oid IS NULL OR f.reader IS NULL
         OR (has_table_privilege(f.reader, f.oid, 'SELECT') AND has_schema_privilege(f.reader, f.schema_name, 'USAGE'))
         AS readable,
       f.oid IS NOT NULL AND pg_has_role(current_user, f.relowner, 'USAGE') AS may_grant,
       CASE
         WHEN to_regnamespace(quote_ident(f.schema_name)) IS NULL
           THEN format('SchemaNotFound: there is no schema %I: create it', f.schema_name)
         WHEN f.oid IS NULL AND NOT has_schema_privilege(current_user, f.schema_name, 'CREATE')
           THEN format('PrivilegeMissing: %s may not make %s: GRANT CREATE ON SCHEMA %I TO %I, or create it', current_user, f.name,
                       f.schema_name, current_user)
         WHEN f.oid IS NULL THEN NULL
         WHEN f.relkind NOT IN ('r', 'p') THEN format('NotATable: %s is no table: name the table itself', f.name)
         WHEN f.relpersistence <> 'p'
           THEN format('UnloggedTable: %s is not logged, and lost in a crash: ALTER TABLE %s SET LOGGED', f.name, f.name)
         WHEN c.type IS NULL
           THEN format('ColumnMissing: %s has no column at_utc, the time of an event: ALTER TABLE %s ADD COLUMN at_utc '
                       'timestamptz NOT NULL DEFAULT now()', f.name, f.name)
         WHEN c.type NOT IN ('timestamp with time zone', 'timestamp without time zone', 'date')
           THEN format('ColumnTypeMismatch: %s.at_utc is of type %s, and no time: ALTER TABLE %s ALTER COLUMN at_utc TYPE '
                       'timestamptz', f.name, c.type, f.name)
         WHEN EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = f.oid AND t.tgname LIKE '00\_pgtier\_%')
           THEN format('IsASource: changes of %s are kept by a policy: take it out of spec.tables', f.name)
       END AS finding
FROM found AS f LEFT JOIN clock AS c ON c.oid IS NOT DISTINCT FROM f.oid
