-- What other policies of the database, and tables of this one that leave it, have to do with these tables. Needs what
-- Install makes. $1: the policy; $2: the sources' names; $3: those of their histories, '' for the default.
WITH asked AS (
  SELECT e.place, e.name, pgtier.shadow_oid(n.schema_name, n.table_name) AS oid, n.schema_name, n.table_name,
         h.schema_name AS history_schema, h.table_name AS history_name,
         format('%I.%I', h.schema_name, h.table_name) AS history_sql
  FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS e (name, history, place)
  CROSS JOIN LATERAL pgtier.shadow_names(e.name) AS n
  CROSS JOIN LATERAL pgtier.shadow_names(CASE e.history WHEN '' THEN format('%I.%I', n.schema_name,
    (n.table_name || '_history')::name) ELSE e.history END) AS h
),
-- Read by its name: versions before this one lack the column.
others AS (
  SELECT t.*, format('%I.%I', t.source_schema, t.source_name) AS source_sql,
         format('%I.%I', t.history_schema, t.history_name) AS history_sql,
         coalesce((to_jsonb(s) ->> 'retained')::boolean, false) AS retained
  FROM pgtier.shadow_tables AS t JOIN pgtier.shadow_state AS s USING (policy) WHERE t.installed
),
findings (place, code, object, message, cure, blocks) AS (
  SELECT a.place, 'OfAnotherPolicy', a.name, format('%s belongs to the policy %s', a.name, o.policy),
         format('take it out of one of the two policies; when %s is no more, make it again, and delete it with deletionPolicy '
                'Remove', o.policy), true
  FROM asked AS a JOIN others AS o ON o.source = a.oid WHERE o.policy <> $1 AND NOT o.retained
  UNION ALL
  SELECT a.place, 'HistoryOfAnother', a.history_sql,
         format('%s is the history of %s in the policy %s', a.history_sql, o.source_sql, o.policy),
         format('give %s a history of its own, or take %s out of %s first', a.name, o.source_sql, o.policy), true
  FROM asked AS a JOIN others AS o ON (o.history_schema, o.history_name) = (a.history_schema, a.history_name)
  WHERE o.source IS DISTINCT FROM a.oid AND (o.source_schema, o.source_name) <> (a.schema_name, a.table_name)
    -- Two of this very list have been named already.
    AND NOT EXISTS (SELECT FROM asked AS b WHERE o.policy = $1 AND b.place <> a.place AND b.oid = o.source
                    AND b.history_sql = a.history_sql)
  UNION ALL
  SELECT a.place, 'SourceIsAHistory', a.name, format('%s is the history of %s in the policy %s', a.name, o.source_sql, o.policy),
         'name another table', true
  FROM asked AS a JOIN others AS o ON (o.history_schema, o.history_name) = (a.schema_name, a.table_name)
  UNION ALL
  SELECT a.place, 'HistoryIsASource', a.history_sql, format('%s is a source of the policy %s', a.history_sql, o.policy),
         'name another history', true
  FROM asked AS a JOIN others AS o ON o.source = pgtier.shadow_oid(a.history_schema, a.history_name) WHERE o.policy <> $1
  UNION ALL
  SELECT a.place, 'PartOfAnother', a.name,
         format('%s and %s of the policy %s are parts of one partitioned table', a.name, o.source_sql, o.policy),
         'name the partitioned table only, in one policy', true
  FROM asked AS a JOIN others AS o ON o.source <> a.oid AND o.policy <> $1
  WHERE o.source IN (SELECT relid FROM pg_partition_ancestors(a.oid::regclass)
                     UNION ALL SELECT relid FROM pg_partition_tree(a.oid::regclass))
)
SELECT code, object, message, cure, blocks FROM findings ORDER BY place, code, object, message
