-- What stands in the way of distributing tables with Citus, read from the catalogue alone: any role may ask.
-- $1: [{"name": "public.decisions", "column": "agent_id", "colocateWith": "agent_events"}, …], in the order of the plan.
-- Rules: Citus documentation, "Creating and Modifying Distributed Objects" and "SQL Support and Workarounds". Co-location
-- is what the policy says, never what Citus would derive from equal types.
WITH RECURSIVE asked AS (
  SELECT place, t ->> 'name' AS name, t ->> 'column' AS column_name, t ->> 'colocateWith' AS with_name,
         to_regclass(t ->> 'name')::oid AS oid, to_regclass(t ->> 'colocateWith')::oid AS with_oid
  FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS e(t, place)
),
found AS (
  SELECT asked.*, c.relkind, c.relispartition, c.relreplident, c.relhasrules, a.attnum, a.atttypid, a.atttypmod,
         a.attcollation, a.attnotnull, a.attgenerated
  FROM asked JOIN pg_class c ON c.oid = asked.oid
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
  WHERE c.relkind IN ('r', 'p')
),
-- The table that each co-location begins with.
chain(oid, root, depth) AS (
  SELECT oid, coalesce(with_oid, oid), 0 FROM found
  UNION ALL
  SELECT chain.oid, f.with_oid, depth + 1 FROM chain JOIN found f ON f.oid = chain.root
  WHERE f.with_oid IS NOT NULL AND f.with_oid <> f.oid AND depth < 256
),
roots AS (SELECT DISTINCT ON (oid) oid, root FROM chain ORDER BY oid, depth DESC),
fks AS (
  SELECT k.conname, k.conrelid, k.confrelid, k.confupdtype, k.confdeltype, k.conkey,
         f.name AS from_name, f.place AS from_place, f.attnum AS from_attnum, f.column_name AS from_column,
         t.name AS to_name, t.place AS to_place, t.attnum AS to_attnum, t.column_name AS to_column,
         rf.root AS from_root, rt.root AS to_root,
         EXISTS (SELECT 1 FROM generate_subscripts(k.conkey, 1) AS i
                 WHERE k.conkey[i] = f.attnum AND k.confkey[i] = t.attnum) AS paired
  FROM pg_constraint k
  LEFT JOIN found f ON f.oid = k.conrelid LEFT JOIN roots rf ON rf.oid = f.oid
  LEFT JOIN found t ON t.oid = k.confrelid LEFT JOIN roots rt ON rt.oid = t.oid
  WHERE k.contype = 'f' AND k.conparentid = 0 AND (f.oid IS NOT NULL OR t.oid IS NOT NULL)
),
findings(place, code, message, cure, blocks) AS (
  SELECT place, 'TableMissing', format('there is no table %s', name),
         'create it, or write its schema before its name', true
  FROM asked WHERE oid IS NULL
  UNION ALL
  SELECT place, 'NotATable', format('%s is no table', name), 'list tables only', true
  FROM asked JOIN pg_class c ON c.oid = asked.oid WHERE c.relkind NOT IN ('r', 'p')
  UNION ALL
  SELECT place, 'IsPartition', format('%s is a partition', name), 'list the partitioned table in its place', true
  FROM found WHERE relispartition
  UNION ALL
  SELECT place, 'ColumnMissing', format('%s has no column %s', name, column_name),
         format('distribute it by one of: %s',
                (SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
                 WHERE attrelid = found.oid AND attnum > 0 AND NOT attisdropped)), true
  FROM found WHERE attnum IS NULL
  UNION ALL
  SELECT place, 'ColumnNullable', format('%s.%s may be NULL, and a row without it has no shard', name, column_name),
         format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', oid::regclass, column_name), true
  FROM found WHERE NOT attnotnull
  UNION ALL
  SELECT place, 'ColumnGenerated', format('%s.%s is a generated column', name, column_name),
         'distribute by a column that is stored as written', true
  FROM found WHERE attgenerated <> ''
  UNION ALL
  SELECT place, 'ColumnNotHashable',
         format('%s.%s is of type %s, which cannot be hashed', name, column_name, format_type(atttypid, atttypmod)),
         'distribute by a column of another type', true
  FROM found CROSS JOIN LATERAL (
    SELECT CASE WHEN ty.typtype = 'd' THEN getbasetype.oid ELSE ty.oid END AS oid, ty.typcategory, ty.typtype
    FROM pg_type ty LEFT JOIN pg_type getbasetype ON getbasetype.oid = ty.typbasetype
    WHERE ty.oid = found.atttypid) AS base
  WHERE base.typcategory NOT IN ('A', 'R', 'E') AND base.typtype <> 'c' AND NOT EXISTS (
    SELECT 1 FROM pg_opclass o JOIN pg_am ON pg_am.oid = o.opcmethod
    WHERE pg_am.amname = 'hash' AND o.opcdefault
      AND (o.opcintype = base.oid OR EXISTS (
        SELECT 1 FROM pg_cast WHERE castsource = base.oid AND casttarget = o.opcintype AND castmethod = 'b'
          AND castcontext = 'i')))
  UNION ALL
  SELECT place, 'ColumnCollation',
         format('%s.%s compares by %s, under which texts that differ may be equal, and Citus hashes them apart', name,
                column_name, c.collname),
         format('give %s a deterministic collation', column_name), true
  FROM found JOIN pg_collation c ON c.oid = attcollation WHERE NOT c.collisdeterministic
  UNION ALL
  SELECT place, 'UniqueKeyLacksColumn',
         format('unique key %s of %s (%s) lacks %s: no shard can check it alone', i.indexrelid::regclass, name,
                (SELECT string_agg(pg_get_indexdef(i.indexrelid, n, true), ', ' ORDER BY n)
                 FROM generate_series(1, i.indnkeyatts) AS n), column_name),
         format('add %s to the key (it then holds for each %s), or drop it', column_name, column_name), true
  FROM found JOIN pg_index i ON i.indrelid = found.oid
  WHERE i.indisunique AND attnum IS NOT NULL AND NOT (attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
  UNION ALL
  SELECT place, 'ExclusionLacksColumn', format('exclusion constraint %s of %s lacks %s with =', k.conname, name, column_name),
         format('add "%s WITH =" to it, or drop it', column_name), true
  FROM found JOIN pg_constraint k ON k.conrelid = found.oid AND k.contype = 'x'
  WHERE attnum IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM generate_subscripts(k.conkey, 1) AS n JOIN pg_operator o ON o.oid = k.conexclop[n]
    WHERE k.conkey[n] = attnum AND o.oprname = '=')
  UNION ALL
  SELECT from_place, 'ForeignKeyToLocalTable',
         format('foreign key %s of %s refers to %s, which is not distributed', conname, from_name, confrelid::regclass),
         format('distribute %s with it, make it a reference table, or drop the key', confrelid::regclass), true
  FROM fks WHERE from_name IS NOT NULL AND to_name IS NULL
  UNION ALL
  SELECT to_place, 'ForeignKeyFromLocalTable',
         format('foreign key %s of %s, which is not distributed, refers to %s', conname, conrelid::regclass, to_name),
         format('distribute %s with it, or drop the key', conrelid::regclass), true
  FROM fks WHERE from_name IS NULL
  UNION ALL
  SELECT from_place, 'ForeignKeyNotColocated',
         format('foreign key %s of %s refers to %s, which is not co-located', conname, from_name, to_name),
         format('set colocateWith of one to the other, or drop the key'), true
  FROM fks WHERE from_root <> to_root
  UNION ALL
  SELECT from_place, 'ForeignKeyLacksColumn',
         format('foreign key %s of %s does not pair %s with %s of %s: its two rows lie on different shards', conname,
                from_name, from_column, to_column, to_name),
         format('distribute both by what the key pairs, or add %s to the key', from_column), true
  FROM fks WHERE from_root = to_root AND NOT paired
  UNION ALL
  SELECT from_place, 'ForeignKeyAction',
         format('foreign key %s of %s would set the distribution column %s', conname, from_name, from_column),
         'use NO ACTION, RESTRICT or CASCADE', true
  FROM fks WHERE from_root = to_root AND from_attnum = ANY (conkey) AND
    (confdeltype IN ('n', 'd') OR confupdtype IN ('n', 'd', 'c'))
  UNION ALL
  SELECT place, 'ColocationUnknown', format('%s is to be co-located with %s, which is not listed', name, with_name),
         'list that table too, before it', true
  FROM found WHERE with_name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM found w WHERE w.oid = found.with_oid)
  UNION ALL
  SELECT f.place, CASE WHEN f.oid = w.oid THEN 'ColocationWithItself' ELSE 'ColocationOrder' END,
         format('%s is to be co-located with %s, which is not distributed before it', f.name, f.with_name),
         'list the table that others are co-located with first', true
  FROM found f JOIN found w ON w.oid = f.with_oid WHERE w.place >= f.place
  UNION ALL
  SELECT f.place, 'ColocationType',
         format('%s.%s is %s and %s.%s is %s: equal values would lie on different shards', f.name, f.column_name,
                format_type(f.atttypid, f.atttypmod), w.name, w.column_name, format_type(w.atttypid, w.atttypmod)),
         'give both columns one type and collation', true
  FROM found f JOIN found w ON w.oid = f.with_oid
  WHERE f.atttypid <> w.atttypid OR f.attcollation <> w.attcollation
  UNION ALL
  SELECT f.place, 'ColocationColumns',
         format('%s is distributed by %s and %s by %s: rows that belong together share a shard only if both columns hold '
                'the same thing', f.name, f.column_name, w.name, w.column_name),
         format('distribute %s by the column that refers to %s', f.name, w.column_name), false
  FROM found f JOIN found w ON w.oid = f.with_oid
  WHERE f.column_name <> w.column_name AND f.atttypid = w.atttypid AND NOT EXISTS (
    SELECT 1 FROM fks WHERE paired AND ((conrelid = f.oid AND confrelid = w.oid) OR (conrelid = w.oid AND confrelid = f.oid)))
  UNION ALL
  SELECT place, 'Hypertable', format('%s is a hypertable of TimescaleDB, which Citus does not distribute', name),
         'keep it out of the list, or partition it natively', true
  FROM found WHERE EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = found.oid AND tgname = 'ts_insert_blocker')
  UNION ALL
  SELECT place, 'TriggerOnTable', format('%s has triggers: %s', name, string_agg(tgname, ', ' ORDER BY tgname)),
         'drop them: Citus runs no triggers of distributed tables unless citus.enable_unsafe_triggers is on', true
  FROM found JOIN pg_trigger ON tgrelid = found.oid
  WHERE NOT tgisinternal AND tgname <> 'ts_insert_blocker' GROUP BY place, name
  UNION ALL
  SELECT place, 'RuleOnTable', format('%s has rules', name), 'drop them: Citus does not know rules', true
  FROM found WHERE relhasrules AND EXISTS (SELECT 1 FROM pg_rewrite WHERE ev_class = found.oid)
  UNION ALL
  SELECT place, 'TableInherits', format('%s inherits, or is inherited from', name), 'use partitions in place of inheritance', true
  FROM found WHERE relkind = 'r' AND NOT relispartition AND EXISTS (
    SELECT 1 FROM pg_inherits WHERE inhparent = found.oid OR inhrelid = found.oid)
    AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = found.oid AND tgname = 'ts_insert_blocker')
  UNION ALL
  SELECT place, 'PartitionedTwice', format('partitions of %s are partitioned themselves', name), 'use one level of partitions', true
  FROM found WHERE relkind = 'p' AND EXISTS (
    SELECT 1 FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = found.oid AND c.relkind = 'p')
  UNION ALL
  SELECT place, 'SequenceTooSmall',
         format('%s.%s draws from a sequence and is %s: workers draw numbers that only bigint holds, so rows come by the '
                'coordinator alone', name, a.attname, format_type(a.atttypid, a.atttypmod)),
         format('ALTER TABLE %s ALTER COLUMN %I TYPE bigint', found.oid::regclass, a.attname), false
  FROM found JOIN pg_attribute a ON a.attrelid = found.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.atttypid IN ('int2'::regtype, 'int4'::regtype)
    AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%')
  UNION ALL
  SELECT place, 'NoReplicaIdentity', format('%s has no replica identity: its writers wait while it is distributed', name),
         'give it a primary key, or REPLICA IDENTITY FULL', false
  FROM found
  WHERE relkind = 'r' AND (relreplident = 'n' OR (relreplident = 'd' AND NOT EXISTS (
    SELECT 1 FROM pg_index WHERE indrelid = found.oid AND indisprimary)))
  UNION ALL
  SELECT 0, 'CitusNotInstalled', 'this server has no extension citus',
         'use an image that has it (spec.postgres.managed.image), or a service that offers it', true
  WHERE NOT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'citus')
)
SELECT code, message, cure, blocks FROM findings ORDER BY blocks DESC, place, code, message
