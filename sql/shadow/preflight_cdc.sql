-- What stands in the way of tier cdc, beside what stands in the way of installing: read from the catalogue alone. $1: the
-- sources' names; $2: the slot; $3: the names of their histories, '' for the default.
WITH named AS (
  SELECT place, name, to_regclass(CASE cardinality(parse_ident(name)) WHEN 1 THEN 'public.' ELSE '' END || name)::oid AS oid,
         CASE WHEN history <> ''
              THEN to_regclass(CASE cardinality(parse_ident(history)) WHEN 1 THEN 'public.' ELSE '' END || history)::oid
         END AS history
  FROM unnest($1::text[], $3::text[]) WITH ORDINALITY AS e (name, history, place)
),
parts AS (
  SELECT named.place, named.name, named.oid AS root, c.oid, c.relkind, c.relpersistence, c.relreplident
  FROM named JOIN pg_class AS c
    ON c.oid = named.oid OR c.oid IN (SELECT relid FROM pg_partition_tree(named.oid::regclass))
),
me AS (SELECT rolsuper, rolreplication FROM pg_roles WHERE rolname = current_user),
findings (place, code, object, message, cure, blocks) AS (
  SELECT 0, 'WalLevel', 'wal_level', format('wal_level is %s', current_setting('wal_level')),
         'set wal_level = logical and restart the server', true
  WHERE current_setting('wal_level') <> 'logical'
  UNION ALL
  SELECT 0, 'NoSlotFree', 'max_replication_slots',
         format('all %s replication slots are taken', current_setting('max_replication_slots')),
         'raise max_replication_slots and restart the server, or drop a slot that nobody reads', true
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $2)
    AND (SELECT count(*) FROM pg_replication_slots) >= current_setting('max_replication_slots')::integer
  UNION ALL
  SELECT 0, 'NoOriginFree', 'max_replication_slots',
         format('there are %s replication origins, and the server can use %s at a time', (SELECT count(*) FROM pg_replication_origin),
                current_setting('max_replication_slots')),
         'raise max_replication_slots (in 18: max_active_replication_origins) and restart the server, or drop origins that nobody uses', false
  WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = 'pgtier_' || $2)
    AND (SELECT count(*) FROM pg_replication_origin)
        >= coalesce(current_setting('max_active_replication_origins', true), current_setting('max_replication_slots'))::integer
  UNION ALL
  SELECT 0, 'NoWalSenderFree', 'max_wal_senders',
         format('all %s walsenders are at work', current_setting('max_wal_senders')),
         'raise max_wal_senders and restart the server', true
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $2 AND active)
    AND (SELECT count(*) FROM pg_stat_get_wal_senders()) >= current_setting('max_wal_senders')::integer
  UNION ALL
  SELECT 0, 'SlotOfAnother', $2, format('there is a slot %s of %s', $2, coalesce('plugin ' || plugin || ' in database ' || database,
                                                                                 'physical replication')),
         'name another slot, or drop this one', true
  FROM pg_replication_slots
  WHERE slot_name = $2 AND (plugin IS DISTINCT FROM 'pgoutput' OR database IS DISTINCT FROM current_database())
  UNION ALL
  SELECT 0, 'NoRightToReplicate', current_user::text, format('%s may neither make slots nor hand that right on', current_user),
         format('ALTER ROLE %I REPLICATION', current_user), true
  FROM me WHERE NOT rolsuper AND NOT rolreplication
  UNION ALL
  SELECT 0, 'NoRightToOrigins', current_user::text,
         format('%s may not make replication origins, nor let the consumer use one', current_user),
         format('as a superuser: GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text), pg_replication_origin_drop(text), '
                'pg_replication_origin_session_setup(text) TO %I WITH GRANT OPTION', current_user), true
  WHERE NOT has_function_privilege('pg_replication_origin_create(text)', 'EXECUTE')
     OR NOT has_function_privilege('pg_replication_origin_session_setup(text)', 'EXECUTE WITH GRANT OPTION')
  UNION ALL
  SELECT 0, 'NoRightToPublish', current_database()::text,
         format('%s may not create a publication in %s', current_user, current_database()),
         format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user), true
  WHERE NOT has_database_privilege(current_database(), 'CREATE')
  UNION ALL
  SELECT 0, 'ConsumerIsAStandby', 'synchronous_standby_names',
         format('synchronous_standby_names = %s takes the consumer for a standby: its own commits would wait for itself',
                quote_literal(current_setting('synchronous_standby_names'))),
         'name the standbys', true
  WHERE current_setting('synchronous_standby_names') ~ '\*|pgtier-cdc'
  UNION ALL
  SELECT 0, 'PreparedTransactions', gid, format('the prepared transaction %s was left open %s ago', quote_literal(gid),
                                                date_trunc('second', clock_timestamp() - prepared)),
         format('COMMIT PREPARED %L or ROLLBACK PREPARED %1$L', gid), true
  FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - interval '10 seconds'
  UNION ALL
  SELECT 0, 'LongTransaction', format('process %s', pid),
         format('the transaction of process %s in %s began %s ago: a slot can only be made when it has ended', pid,
                coalesce(datname, 'no database'), date_trunc('second', clock_timestamp() - xact_start)),
         'let it end, or end it', false
  FROM pg_stat_activity
  WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL AND xact_start < clock_timestamp() - interval '30 seconds'
    AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $2)
  UNION ALL
  SELECT place, 'UnloggedTable', oid::regclass::text, format('%s is unlogged: its changes are in no log', oid::regclass),
         format('ALTER TABLE %s SET LOGGED', oid::regclass), true
  FROM parts WHERE relpersistence = 'u' AND oid <> root
  UNION ALL
  SELECT 0, 'ManyRelations', 'max_locks_per_transaction',
         format('the barrier locks %s tables and partitions at once, and the server has room for about %s locks', count(*), room),
         'raise max_locks_per_transaction and restart the server', count(*) > room
  FROM parts, LATERAL (SELECT current_setting('max_locks_per_transaction')::integer
                              * (current_setting('max_connections')::integer
                                 + current_setting('max_prepared_transactions')::integer) AS room) AS server
  GROUP BY room HAVING count(*) > room / 4
  UNION ALL
  SELECT place, 'IdentityBecomesFull', name,
         format('%s of the %s tables of %s get REPLICA IDENTITY FULL, which writes more log at UPDATE and DELETE',
                count(*), (SELECT count(*) FROM parts AS p WHERE p.place = parts.place AND p.relkind = 'r'), name),
         'nothing: it is set back when cdc is left', false
  FROM parts WHERE relkind = 'r' AND relreplident <> 'f' GROUP BY place, name
  UNION ALL
  SELECT place, 'Subscribed', oid::regclass::text,
         format('a subscription writes to %s: what comes by replication is not sent on to cdc', oid::regclass),
         'record it where it comes from', true
  FROM parts WHERE oid IN (SELECT srrelid FROM pg_subscription_rel)
  UNION ALL
  SELECT place, 'RowImages', history, format('%s records whole rows as JSON, which cdc does not write', history),
         format('give %s a history with columns of its own', name), true
  FROM (SELECT named.place, named.name, h.oid::regclass::text AS history, a.attname, a.atttypid
        FROM named JOIN pg_class AS c ON c.oid = named.oid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_class AS h ON h.oid = coalesce(named.history,
                                               to_regclass(format('%I.%I', n.nspname, (c.relname || '_history')::name)))
        JOIN pg_attribute AS a ON a.attrelid = h.oid AND a.attnum > 0 AND NOT a.attisdropped) AS images
  WHERE attname IN ('new_row', 'old_row') AND atttypid IN ('json'::regtype, 'jsonb'::regtype)
  GROUP BY place, name, history
)
SELECT code, object, message, cure, blocks FROM findings ORDER BY place, code, object
