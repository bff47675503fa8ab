-- What stands in the way of installing shadow tables, or is worth knowing, read from the catalogue alone: changes
-- nothing and needs nothing that pgtier makes. $1: the sources' names; $2: those of their histories, '' for the default;
-- $3: the tier.
WITH asked AS (
  SELECT place, source AS name, parse_ident(source) AS parts,
         CASE WHEN history <> '' THEN parse_ident(history) END AS history_parts
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS e (source, history, place)
),
named AS (
  SELECT place, name, CASE WHEN cardinality(parts) = 1 THEN 'public' ELSE parts[1] END AS schema_name,
         parts[cardinality(parts)] AS table_name,
         CASE WHEN history_parts IS NULL THEN CASE WHEN cardinality(parts) = 1 THEN 'public' ELSE parts[1] END
              WHEN cardinality(history_parts) = 1 THEN 'public' ELSE history_parts[1] END AS history_schema,
         coalesce(history_parts[cardinality(history_parts)], (parts[cardinality(parts)] || '_history')::name::text)
           AS history_name
  FROM asked
),
found AS (
  SELECT named.*, c.oid, c.relkind, c.relpersistence, c.relowner, c.relispartition, h.oid AS history,
         h.relkind AS history_kind, h.relowner AS history_owner,
         format('%I.%I', history_schema, history_name) AS history_sql
  FROM named
  LEFT JOIN pg_class AS c ON c.oid = to_regclass(format('%I.%I', schema_name, table_name))
  LEFT JOIN pg_class AS h ON h.oid = to_regclass(format('%I.%I', history_schema, history_name))
),
me AS (SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user),
meta (name) AS (VALUES ('epoch'), ('position'), ('at_utc'), ('operation'), ('actor')),
-- The source's columns that are recorded, with their types under domains.
source_columns AS (
  SELECT f.place, f.name AS source_name, a.attname::text AS name, a.atttypmod, a.attnotnull,
         (WITH RECURSIVE base AS (
            SELECT a.atttypid AS oid, 0 AS depth
            UNION ALL SELECT t.typbasetype, depth + 1 FROM base JOIN pg_type AS t ON t.oid = base.oid
                      WHERE t.typtype = 'd')
          SELECT base.oid FROM base ORDER BY depth DESC LIMIT 1) AS type
  FROM found AS f JOIN pg_attribute AS a ON a.attrelid = f.oid
  WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
),
history_columns AS (
  SELECT f.place, f.name AS source_name, f.history_sql, a.attname::text AS name, a.atttypid AS type, a.atttypmod,
         -- What numbers the history's own rows: see shadow_own_column.
         a.attidentity <> '' OR a.attgenerated <> ''
           OR EXISTS (SELECT FROM pg_attrdef AS d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum
                      AND pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%')
           OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisunique
                      AND a.attnum = ANY (i.indkey::smallint[])) AS own,
         a.attname IN ('old_row', 'new_row') AND a.atttypid IN ('json'::regtype, 'jsonb'::regtype) AS whole,
         a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS must_be_filled
  FROM found AS f JOIN pg_attribute AS a ON a.attrelid = f.history
  WHERE f.history_kind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
),
-- Which column of a history takes what.
filled AS (
  SELECT h.*, s.type AS from_type, s.atttypmod AS from_typmod, h.name = s.name AS is_new, s.name AS from_name
  FROM history_columns AS h JOIN source_columns AS s
    ON s.place = h.place
       AND (h.name = s.name
            OR (h.name = ('old_' || s.name)::name::text
                AND NOT EXISTS (SELECT FROM source_columns AS o WHERE o.place = s.place AND o.name = h.name)))
  WHERE h.name NOT IN (SELECT name FROM meta) AND NOT h.whole
    AND NOT (h.own AND EXISTS (SELECT FROM history_columns AS w WHERE w.place = h.place AND w.whole))
),
whole_rows AS (
  SELECT place, name FROM history_columns WHERE whole
),
findings (place, code, object, message, cure, blocks) AS (
  SELECT 0, 'ServerTooOld', 'server_version', format('the server is PostgreSQL %s', current_setting('server_version')),
         'shadow tables need PostgreSQL 15 or later', true
  WHERE current_setting('server_version_num')::integer < 150000
  UNION ALL
  SELECT 0, 'NotThePrimary', 'pg_is_in_recovery', 'the server is a standby', 'connect to the primary', true
  WHERE pg_is_in_recovery()
  UNION ALL
  SELECT 0, 'DdlNotFollowed', current_user::text,
         format('%s is no superuser, so that event triggers can''t be made: a change of a source''s columns is not carried '
                'over by itself', current_user),
         'to change a source: take it out of the policy, change it, put it back'
         || CASE WHEN $3 = 'cdc' THEN '; or act as a superuser: a partition that is made in cdc would not be recorded'
                 ELSE '' END,
         $3 = 'cdc' AND EXISTS (SELECT FROM found WHERE relkind = 'p')
  FROM me WHERE NOT rolsuper
    AND NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'pgtier_shadow_ddl' AND evtenabled <> 'D')
  UNION ALL
  SELECT 0, 'NoRightToMakeRoles', current_user::text, format('%s may not make the roles pgtier_shadow…', current_user),
         format('ALTER ROLE %I CREATEROLE', current_user), true
  FROM me WHERE NOT rolsuper AND NOT rolcreaterole
    AND (SELECT count(*) FROM pg_roles WHERE rolname IN ('pgtier_shadow', 'pgtier_shadow_notify', 'pgtier_shadow_cdc')) < 3
  UNION ALL
  SELECT 0, 'NoRightToMakeSchema', current_database()::text,
         format('%s may not create a schema in %s', current_user, current_database()),
         format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user), true
  WHERE to_regnamespace('pgtier') IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')
  UNION ALL
  SELECT 0, 'PreparedTransactions', 'max_prepared_transactions',
         'transactions may be prepared, which forbids NOTIFY in them: the worker looks every 100 ms instead of being woken',
         'nothing, or set max_prepared_transactions = 0 where nobody prepares transactions', false
  WHERE $3 = 'notify' AND current_setting('max_prepared_transactions') <> '0'
  UNION ALL
  SELECT place, 'NoTable', name, format('there is no table %s', name), 'create it, or write its schema before its name', true
  FROM found WHERE oid IS NULL
  UNION ALL
  SELECT place, 'NotATable', name, format('%s is no table', name), 'name ordinary or partitioned tables', true
  FROM found WHERE relkind NOT IN ('r', 'p') OR relpersistence = 't'
  UNION ALL
  SELECT place, 'NotTheOwner', name, format('%s does not own %s', current_user, name),
         format('GRANT %s TO %I', relowner::regrole, current_user), true
  FROM found WHERE relkind IN ('r', 'p') AND NOT pg_has_role(relowner, 'USAGE')
  UNION ALL
  SELECT max(place), 'NamedTwice', min(name), format('%s is named twice', min(name)), 'name it once', true
  FROM found WHERE oid IS NOT NULL GROUP BY oid HAVING count(*) > 1
  UNION ALL
  SELECT f.place, 'PartOfAnother', f.name, format('%s is a partition of %s, which is named too', f.name, o.name),
         'name the partitioned table only', true
  FROM found AS f JOIN found AS o ON o.oid <> f.oid AND o.oid IN (SELECT relid FROM pg_partition_ancestors(f.oid))
  UNION ALL
  SELECT max(place), 'SharedHistory', min(history_sql), format('%s is to be the history of two tables', min(history_sql)),
         'give each table a history of its own', true
  FROM found GROUP BY history_schema, history_name HAVING count(*) > 1
  UNION ALL
  SELECT f.place, 'HistoryIsASource', f.history_sql, format('%s is a source and a history', f.history_sql),
         'name another history', true
  FROM found AS f JOIN found AS o ON o.oid = f.history
  UNION ALL
  SELECT place, 'HistoryNotATable', history_sql, format('%s is no table', history_sql), 'name another history', true
  FROM found WHERE history_kind NOT IN ('r', 'p')
  UNION ALL
  SELECT place, 'NotTheOwner', history_sql, format('%s does not own %s', current_user, history_sql),
         format('GRANT %s TO %I', history_owner::regrole, current_user), true
  FROM found WHERE history IS NOT NULL AND NOT pg_has_role(history_owner, 'USAGE')
  UNION ALL
  SELECT place, 'NoSchema', history_schema, format('there is no schema %s for %s', history_schema, history_sql),
         format('CREATE SCHEMA %I', history_schema), true
  FROM found WHERE to_regnamespace(quote_ident(history_schema)) IS NULL
  UNION ALL
  SELECT place, 'UnloggedTable', name, format('%s is unlogged: a crash empties it, its history stays', name),
         format('ALTER TABLE %s SET LOGGED', oid::regclass), $3 = 'cdc'
  FROM found WHERE relpersistence = 'u'
  UNION ALL
  SELECT place, 'ForeignPartition', p.relid::regclass::text, format('the partition %s of %s is a foreign table', p.relid::regclass, name),
         'detach it', true
  FROM found, pg_partition_tree(found.oid) AS p JOIN pg_class AS c ON c.oid = p.relid WHERE c.relkind = 'f'
  UNION ALL
  SELECT place, 'ChildrenNotRecorded', name, format('tables inherit from %s; changes of their rows are not recorded', name),
         'name them as tables of their own', false
  FROM found WHERE relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = found.oid)
  UNION ALL
  SELECT s.place, 'ColumnNameTaken', format('%s.%s', s.source_name, s.name),
         format('%s has a column %s, which is a column of pgtier''s in each history', s.source_name, s.name),
         'rename it, or make a history that holds rows in columns old_row and new_row of type jsonb', true
  FROM source_columns AS s JOIN (SELECT name FROM meta UNION VALUES ('pgtier_shard'), ('pgtier_also')) AS m ON m.name = s.name
  WHERE s.place NOT IN (SELECT place FROM whole_rows)
  UNION ALL
  -- A history has each column twice, and as many as a table may have.
  SELECT place, 'TooManyColumns', min(source_name),
         format('%s has %s columns; a history of it would have %s, and a table may have 1600', min(source_name), count(*),
                2 * count(*) + 5),
         'make a history that holds rows in columns old_row and new_row of type jsonb', true
  FROM source_columns WHERE place NOT IN (SELECT place FROM whole_rows) GROUP BY place HAVING 2 * count(*) + 5 > 1600
  UNION ALL
  -- What a row of the history takes at UPDATE, where it must fit into a page: what can be moved out leaves 18 bytes there.
  SELECT place, 'RowTooWide', min(source_name),
         format('two rows of %s take up to %s bytes beside each other, and 8160 fit into a row of its history: %s', min(source_name),
                2 * sum(width) + 100 + count(*) / 4,
                CASE WHEN 2 * coalesce(sum(width) FILTER (WHERE always), 0) + 100 + count(*) / 4 > 8160
                     THEN 'each UPDATE would fail' ELSE 'an UPDATE fails when most of its columns are filled' END),
         'make a history that holds rows in columns old_row and new_row of type jsonb',
         2 * coalesce(sum(width) FILTER (WHERE always), 0) + 100 + count(*) / 4 > 8160
  FROM (SELECT s.place, s.source_name, CASE WHEN t.typlen > 0 THEN t.typlen ELSE 18 END AS width,
               s.attnotnull AND t.typlen > 0 AS always
        FROM source_columns AS s JOIN pg_type AS t ON t.oid = s.type) AS widths
  WHERE place NOT IN (SELECT place FROM whole_rows)
  GROUP BY place HAVING 2 * sum(width) + 100 + count(*) / 4 > 8160
  UNION ALL
  SELECT h.place, 'HistoryTypeMismatch', format('%s.%s', h.history_sql, h.name),
         format('%s.%s is of type %s; pgtier writes %s into it', h.history_sql, h.name, format_type(h.type, h.atttypmod), m.wants),
         format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', h.history_sql, h.name, m.wants), true
  FROM history_columns AS h
  JOIN (VALUES ('epoch', 'bigint', '{int8}'::text[], 0), ('position', 'bigint', '{int8}', 0),
               ('at_utc', 'timestamptz', '{timestamptz,timestamp}', 0), ('operation', 'text', '{text,varchar,bpchar}', 8),
               ('actor', 'text', '{text,varchar}', 0)) AS m (name, wants, types, width) ON m.name = h.name
  JOIN pg_type AS t ON t.oid = h.type
  WHERE NOT t.typname = ANY (m.types) OR (m.width > 0 AND h.atttypmod >= 0 AND h.atttypmod - 4 < m.width)
  UNION ALL
  SELECT h.place, 'HistoryTypeMismatch', format('%s.%s', h.history_sql, h.name),
         format('%s.%s is of type %s, which can''t take each %s of %s', h.history_sql, h.name, format_type(h.type, h.atttypmod),
                format_type(h.from_type, h.from_typmod), h.source_name),
         format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', h.history_sql, h.name, format_type(h.from_type, h.from_typmod)), true
  FROM filled AS h JOIN pg_type AS t ON t.oid = h.type
  WHERE NOT ((h.type = h.from_type AND (h.atttypmod = -1 OR h.atttypmod = h.from_typmod))
             OR (h.type IN ('text'::regtype, 'varchar'::regtype) AND h.atttypmod = -1)
             OR (h.atttypmod = -1 AND EXISTS (SELECT FROM pg_cast WHERE castsource = h.from_type AND casttarget = h.type
                                              AND castcontext = 'i' AND castfunc < 16384)))  -- the server's own
  UNION ALL
  SELECT h.place, 'HistoryColumnNotFilled', format('%s.%s', h.history_sql, h.name),
         format('%s.%s is NOT NULL, and %s', h.history_sql, h.name,
                CASE WHEN f.name IS NULL THEN 'nothing that pgtier writes fills it' ELSE 'it has no value for each operation' END),
         format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', h.history_sql, h.name), true
  FROM history_columns AS h LEFT JOIN filled AS f ON f.place = h.place AND f.name = h.name
  WHERE h.must_be_filled AND h.name NOT IN ('epoch', 'position', 'at_utc', 'operation')
  UNION ALL
  SELECT place, 'HistoryRecordsNothing', history_sql, format('%s has no column that could hold a row of %s', history_sql, name),
         format('add columns of the names of %s, or new_row and old_row of type jsonb', name), true
  FROM found WHERE history_kind IN ('r', 'p') AND oid IS NOT NULL AND place NOT IN (SELECT place FROM filled)
    AND place NOT IN (SELECT place FROM whole_rows)
  UNION ALL
  SELECT s.place, 'ColumnNotRecorded', format('%s.%s', s.source_name, s.name),
         format('%s has no column for %s.%s', f.history_sql, s.source_name, s.name),
         format('ALTER TABLE %s ADD COLUMN %I %s', f.history_sql, s.name, format_type(s.type, -1)), false
  FROM source_columns AS s JOIN found AS f ON f.place = s.place
  WHERE f.history IS NOT NULL AND s.place NOT IN (SELECT place FROM whole_rows) AND s.name NOT IN (SELECT name FROM meta)
    AND EXISTS (SELECT FROM filled WHERE filled.place = s.place AND is_new)
    AND NOT EXISTS (SELECT FROM filled WHERE filled.place = s.place AND is_new AND from_name = s.name)
)
SELECT code, object, message, cure, blocks FROM findings ORDER BY place, code, object
