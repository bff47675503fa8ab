-- What stands in the way of a history that is there: code that would run with pgtier's rights, and what would make the
-- application's writes fail. Read from the catalogue alone: before anything is made, and again when the history is
-- locked. $1: the sources' names; $2: those of their histories, '' for the default; $3: the tier.
WITH RECURSIVE asked AS (
  SELECT place, parse_ident(source) AS parts, CASE WHEN history <> '' THEN parse_ident(history) END AS history_parts
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS e (source, history, place)
),
named AS (
  SELECT place, CASE WHEN cardinality(parts) = 1 THEN 'public' ELSE parts[1] END AS schema_name,
         parts[cardinality(parts)] AS table_name,
         CASE WHEN history_parts IS NULL THEN CASE WHEN cardinality(parts) = 1 THEN 'public' ELSE parts[1] END
              WHEN cardinality(history_parts) = 1 THEN 'public' ELSE history_parts[1] END AS history_schema,
         coalesce(history_parts[cardinality(history_parts)], (parts[cardinality(parts)] || '_history')::name::text)
           AS history_name
  FROM asked
),
found AS (
  SELECT place, to_regclass(format('%I.%I', schema_name, table_name))::oid AS source, h.oid AS history, h.relkind,
         h.relowner, format('%I.%I', history_schema, history_name) AS history_sql
  FROM named JOIN pg_class AS h ON h.oid = to_regclass(format('%I.%I', history_schema, history_name))
  WHERE h.relkind IN ('r', 'p')
),
relations AS (
  SELECT f.place, f.history_sql, c.oid, c.relrowsecurity, c.relforcerowsecurity
  FROM found AS f
  CROSS JOIN LATERAL (SELECT f.history UNION SELECT relid::oid FROM pg_partition_tree(f.history::regclass)) AS r (oid)
  JOIN pg_class AS c ON c.oid = r.oid
),
-- The types of the columns, and all that these are made of.
types (place, oid) AS (
  SELECT r.place, a.atttypid FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
  WHERE a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT t.place, n.oid FROM types AS t,
    LATERAL (SELECT typbasetype FROM pg_type WHERE oid = t.oid UNION SELECT typelem FROM pg_type WHERE oid = t.oid
             UNION SELECT a.atttypid FROM pg_attribute AS a
                   WHERE a.attrelid = (SELECT typrelid FROM pg_type WHERE oid = t.oid) AND a.attnum > 0 AND NOT a.attisdropped
             UNION SELECT g.rngsubtype FROM pg_range AS g WHERE t.oid IN (g.rngtypid, g.rngmultitypid)) AS n (oid)
  WHERE n.oid <> 0
),
-- What is evaluated when a row is written.
expressions (place, classid, objid) AS (
  SELECT place, 'pg_class'::regclass, oid FROM relations
  UNION SELECT place, 'pg_class'::regclass, indexrelid FROM relations JOIN pg_index ON indrelid = relations.oid
  UNION SELECT place, 'pg_attrdef'::regclass, d.oid FROM relations JOIN pg_attrdef AS d ON adrelid = relations.oid
  UNION SELECT place, 'pg_constraint'::regclass, c.oid FROM relations JOIN pg_constraint AS c ON conrelid = relations.oid
  UNION SELECT place, 'pg_policy'::regclass, p.oid FROM relations JOIN pg_policy AS p ON polrelid = relations.oid
  UNION SELECT place, 'pg_type'::regclass, oid FROM types
  UNION SELECT place, 'pg_type'::regclass, g.rngtypid FROM types JOIN pg_range AS g ON g.rngmultitypid = types.oid
  UNION SELECT place, 'pg_constraint'::regclass, c.oid FROM types JOIN pg_constraint AS c ON contypid = types.oid
),
-- The functions that it calls, but for those that only a superuser can replace: the server's, extensions', her own.
code AS (
  SELECT DISTINCT e.place, pg_describe_object(e.classid, e.objid, 0) AS what, p.oid::regprocedure AS function
  FROM expressions AS e JOIN pg_depend AS d ON d.classid = e.classid AND d.objid = e.objid
  LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  JOIN pg_proc AS p ON p.oid = CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode END
  JOIN pg_roles AS w ON w.oid = p.proowner
  JOIN pg_namespace AS n ON n.oid = p.pronamespace
  WHERE n.nspname NOT IN ('pg_catalog', 'pgtier') AND NOT w.rolsuper
),
columns AS (
  SELECT f.place, f.history_sql, a.attrelid, a.attnum, a.attname::text AS name, a.attidentity, a.attgenerated, a.atthasdef,
         a.attname IN ('epoch', 'position', 'at_utc', 'operation', 'actor') AS is_meta,
         coalesce(pg_get_expr(d.adbin, d.adrelid), '') AS default_sql
  FROM found AS f JOIN pg_attribute AS a ON a.attrelid = f.history AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
),
whole_rows AS (
  SELECT DISTINCT f.place FROM found AS f JOIN pg_attribute AS a ON a.attrelid = f.history AND NOT a.attisdropped
  WHERE a.attname IN ('new_row', 'old_row') AND a.atttypid IN ('json'::regtype, 'jsonb'::regtype)
),
-- Columns that pgtier writes into. With whole rows a history keeps those for itself that give a row its number (see
-- shadow_own_column).
filled AS (
  SELECT c.* FROM columns AS c JOIN found AS f ON f.place = c.place
  WHERE c.is_meta
     OR (EXISTS (SELECT FROM pg_attribute AS s
                 WHERE s.attrelid = f.source AND s.attnum > 0 AND NOT s.attisdropped AND s.attgenerated = ''
                   AND c.name IN (s.attname::text, ('old_' || s.attname)::name::text))
         AND NOT (c.place IN (SELECT place FROM whole_rows)
                  AND (c.attidentity <> '' OR c.attgenerated <> '' OR c.default_sql LIKE 'nextval(%'
                       OR EXISTS (SELECT FROM pg_index AS i
                                  WHERE i.indrelid = c.attrelid AND i.indisunique AND c.attnum = ANY (i.indkey::smallint[])))))
),
findings (place, code, object, message, cure, blocks) AS (
  SELECT r.place, 'HistoryRunsCode', format('%s on %s', quote_ident(g.tgname), r.oid::regclass),
         format('the trigger %s of %s would run with pgtier''s rights', quote_ident(g.tgname), r.oid::regclass),
         format('DROP TRIGGER %I ON %s', g.tgname, r.oid::regclass), true
  FROM relations AS r JOIN pg_trigger AS g ON g.tgrelid = r.oid AND NOT g.tgisinternal AND g.tgparentid = 0
  JOIN pg_proc AS p ON p.oid = g.tgfoid JOIN pg_namespace AS n ON n.oid = p.pronamespace
  JOIN pg_roles AS w ON w.oid = p.proowner WHERE n.nspname <> 'pgtier' AND NOT w.rolsuper
  UNION ALL
  SELECT r.place, 'HistoryRunsCode', format('%s on %s', quote_ident(w.rulename), r.oid::regclass),
         format('the rule %s of %s would run with pgtier''s rights', quote_ident(w.rulename), r.oid::regclass),
         format('DROP RULE %I ON %s', w.rulename, r.oid::regclass), true
  FROM relations AS r JOIN pg_rewrite AS w ON w.ev_class = r.oid
  UNION ALL
  SELECT c.place, 'HistoryRunsCode', f.history_sql,
         format('%s calls %s, which would run with pgtier''s rights', c.what, c.function),
         'do without it: of the server''s own functions only', true
  FROM code AS c JOIN found AS f ON f.place = c.place
  UNION ALL
  SELECT place, 'HistoryColumnGenerated', format('%s.%s', history_sql, name),
         format('%s.%s makes its values itself, and pgtier is to write into it', history_sql, name),
         CASE WHEN is_meta THEN format('ALTER TABLE %s RENAME COLUMN %I TO own_%s', history_sql, name, name)
              ELSE format('ALTER TABLE %s RENAME COLUMN %I TO history_%s', history_sql, name, name) END, true
  FROM filled WHERE attidentity = 'a' OR attgenerated <> ''
  UNION ALL
  -- A source's row has many rows in its history.
  SELECT r.place, 'HistoryUnique', i.indexrelid::regclass::text,
         format('%s lets values come once that %s has for each change of a row, or for each row', i.indexrelid::regclass,
                r.history_sql),
         coalesce((SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', r.oid::regclass, c.conname) FROM pg_constraint AS c
                   WHERE c.conindid = i.indexrelid AND c.conrelid = r.oid), format('DROP INDEX %s', i.indexrelid::regclass))
         || ', or add the columns epoch and position to it', true
  FROM relations AS r JOIN pg_index AS i ON i.indrelid = r.oid AND i.indisunique AND NOT i.indisexclusion
  WHERE NOT EXISTS (
    SELECT FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, n)
    JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum = k.attnum
    JOIN columns AS c ON c.place = r.place AND c.name = a.attname
    WHERE k.n <= i.indnkeyatts
      AND (c.name = 'position'
           OR (c.name NOT IN (SELECT o.name FROM filled AS o WHERE o.place = r.place)
               AND (c.attidentity <> '' OR c.default_sql LIKE '%(%'
                    OR (NOT c.atthasdef AND coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'false')))))
    -- That of a partition which belongs to one of the whole has been named there.
    AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = i.indexrelid)
  UNION ALL
  SELECT r.place, 'HistoryConstraint', format('%s on %s', quote_ident(c.conname), r.oid::regclass),
         format('%s of %s (%s) would make the application''s writes fail', quote_ident(c.conname), r.oid::regclass,
                pg_get_constraintdef(c.oid)),
         format('ALTER TABLE %s DROP CONSTRAINT %I', r.oid::regclass, c.conname), true
  FROM relations AS r JOIN pg_constraint AS c ON c.conrelid = r.oid WHERE c.contype IN ('f', 'x') AND c.conparentid = 0
  UNION ALL
  SELECT place, 'HistoryRowSecurity', oid::regclass::text,
         format('row security of %s holds for %s', oid::regclass,
                CASE WHEN relforcerowsecurity THEN 'its owner too, who writes it' ELSE 'the worker, who writes it in cdc' END),
         format('ALTER TABLE %s %s ROW LEVEL SECURITY', oid::regclass,
                CASE WHEN relforcerowsecurity AND $3 <> 'cdc' THEN 'NO FORCE' ELSE 'DISABLE' END), true
  FROM relations WHERE relrowsecurity AND (relforcerowsecurity OR $3 = 'cdc')
  UNION ALL
  -- pgtier keeps partitions ahead of the clock in those that it has.
  SELECT f.place, 'HistoryPartitionsEnd', f.history_sql,
         format('%s has no default partition: a row that no partition takes makes the application''s write fail', f.history_sql),
         format('make partitions ahead of time, or one of DEFAULT of %s', f.history_sql), false
  FROM found AS f JOIN pg_partitioned_table AS p ON p.partrelid = f.history
  WHERE p.partdefid = 0 AND p.partstrat <> 'h'
    AND f.relowner IS DISTINCT FROM (SELECT oid FROM pg_roles WHERE rolname = 'pgtier_shadow')
)
SELECT code, object, message, cure, blocks FROM findings ORDER BY place, code, object, message
