-- Delivery Payload of tier notify: the row travels in the notification itself, and a worker that listens puts it into
-- the outbox, from which it goes on as ever. What a notification can't carry, and all that is written while nobody
-- listens, goes into the outbox at once. See docs/decisions/0067.
--
-- Who listens holds K (7047005, the policy's number): a trigger sends only while K is refused to it.

-- Types whose values may be read back from text with pgtier's rights: reading one of a composite type, or of a domain
-- somewhere in it, runs the checks that its owner wrote.
CREATE OR REPLACE FUNCTION pgtier.shadow_plain_type(wanted oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT coalesce((SELECT (t.typtype IN ('b', 'e') OR (t.typtype IN ('r', 'm') AND t.oid < 16384))
                          AND (e.oid IS NULL OR e.typtype IN ('b', 'e') OR (e.typtype IN ('r', 'm') AND e.oid < 16384))
                   FROM pg_type AS t LEFT JOIN pg_type AS e ON e.oid = t.typelem WHERE t.oid = wanted), false)
$fn$;

-- Whether the role that reads rows may name the type.
CREATE OR REPLACE FUNCTION pgtier.shadow_type_in_reach(wanted oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT coalesce((SELECT has_schema_privilege('pgtier_shadow', t.typnamespace, 'USAGE')
                          AND (e.oid IS NULL OR has_schema_privilege('pgtier_shadow', e.typnamespace, 'USAGE'))
                   FROM pg_type AS t LEFT JOIN pg_type AS e ON e.oid = t.typelem WHERE t.oid = wanted), false)
$fn$;

-- Whether a source's trigger sends its rows. Where transactions may be prepared NOTIFY would stop PREPARE.
CREATE OR REPLACE FUNCTION pgtier.shadow_sends(wanted integer) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT s.tier = 'notify' AND s.payload AND s.channel <> '' AND current_setting('max_prepared_transactions') = '0'
         AND NOT EXISTS (SELECT FROM pgtier.shadow_columns AS k
                         WHERE k.table_id = wanted AND NOT (pgtier.shadow_plain_type(k.type)
                                                            AND pgtier.shadow_type_in_reach(k.type)))
  FROM pgtier.shadow_tables AS t JOIN pgtier.shadow_state AS s USING (policy) WHERE t.id = wanted
$fn$;

-- The channel on which rows travel: one a policy, of a name that never changes, for who listens must not miss a change.
-- It is not that of the wake-ups, to which every worker listens.
CREATE OR REPLACE FUNCTION pgtier.shadow_payload_channel(wanted text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT 'pgtier_payload_' || number FROM pgtier.shadow_state WHERE policy = wanted
$fn$;

-- The first part of the text of a trigger function that sends. It draws position and time, for the notification as for
-- the outbox, and returns when the row was sent; the rest of the text is that of the outbox. Each value is the text that
-- its type's output function gives; `columns` says of which columns and types they are, and which had a place in the history
-- (n: new, o: old; 0:0 is the whole row), since that may have changed when the row is read.
CREATE OR REPLACE FUNCTION pgtier.shadow_payload_part(wanted integer, actor text, shard_new text, shard_old text,
                                                      shard_also text) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  s pgtier.shadow_state;
  shape text;
  image record;
  sizes text;
  op text;
  part text;
BEGIN
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  SELECT * INTO STRICT s FROM pgtier.shadow_state WHERE policy = t.policy;
  SELECT coalesce(string_agg(concat(attnum, ':', type, ':', CASE WHEN has_new THEN 'n' END, CASE WHEN has_old THEN 'o' END), ' '
                             ORDER BY attnum), '') INTO shape
    FROM (SELECT attnum, type, new_column IS NOT NULL AS has_new, old_column IS NOT NULL AS has_old
          FROM pgtier.shadow_columns WHERE table_id = wanted
          UNION ALL SELECT 0, 0::oid, t.new_row IS NOT NULL, t.old_row IS NOT NULL) AS k WHERE has_new OR has_old;
  part := format($text$
DECLARE
  place bigint := nextval(%L::regclass);
  moment timestamptz := clock_timestamp();
  sent text := current_setting('pgtier.payload_bytes', true);
  signed_by text;
  said text;
BEGIN
  -- A transaction keeps in memory what it sends, and all of it has to fit into the server's queue: after the first
  -- million bytes the rest goes into the outbox.
  IF NOT pg_try_advisory_xact_lock_shared(7047005, %s) AND (sent IS NULL OR sent !~ '^[0-9]{7,}$') THEN
$text$, format('pgtier.position_%s', wanted), s.number);
  FOREACH op IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] LOOP
    WITH parts AS (
      SELECT 1 AS part, attnum, 'n' || attnum AS key,
             CASE op WHEN 'DELETE' THEN 'OLD.' ELSE 'NEW.' END || quote_ident(name) AS field
      FROM pgtier.shadow_columns WHERE table_id = wanted AND new_column IS NOT NULL AND op <> 'TRUNCATE'
      UNION ALL
      SELECT 2, attnum, 'o' || attnum, 'OLD.' || quote_ident(name)
      FROM pgtier.shadow_columns WHERE table_id = wanted AND old_column IS NOT NULL AND op = 'UPDATE'
      UNION ALL
      SELECT 3, 1, 'nr', 'to_jsonb(NEW)' WHERE t.new_row IS NOT NULL AND op IN ('INSERT', 'UPDATE')
      UNION ALL
      SELECT 3, 2, 'or', 'to_jsonb(OLD)' WHERE t.old_row IS NOT NULL AND op IN ('UPDATE', 'DELETE'))
    SELECT coalesce(string_agg(',' || key, '' ORDER BY parts.part, attnum), '') AS keys,
           coalesce(string_agg(format(', CASE WHEN %1$s IS NOT NULL THEN format(''%%s'', %1$s) END', field), ''
                               ORDER BY parts.part, attnum), '') AS fields INTO image FROM parts;
    -- A large value is never made into text, which could fail for want of memory: it stays NULL, and is not sent.
    SELECT format('coalesce(greatest(%s), 0) < 8000', coalesce(string_agg(format('pg_column_size(%s)', field), ', '), '0'))
      INTO sizes
      FROM (SELECT 'NEW.' || quote_ident(k.name) AS field, k.type FROM pgtier.shadow_columns AS k
            WHERE k.table_id = wanted AND op IN ('INSERT', 'UPDATE') AND (k.new_column IS NOT NULL OR t.new_row IS NOT NULL)
            UNION ALL
            SELECT 'OLD.' || quote_ident(k.name), k.type FROM pgtier.shadow_columns AS k
            WHERE k.table_id = wanted AND (op = 'DELETE' AND k.new_column IS NOT NULL
                    OR op = 'UPDATE' AND k.old_column IS NOT NULL
                    OR op IN ('UPDATE', 'DELETE') AND t.old_row IS NOT NULL)) AS f
      JOIN pg_type AS y ON y.oid = f.type AND y.typlen = -1;
    part := part || CASE op WHEN 'INSERT' THEN '    IF TG_OP = ''INSERT'' THEN' WHEN 'TRUNCATE' THEN '    ELSE'
                            ELSE format('    ELSIF TG_OP = %L THEN', op) END
            || format(E'\n      IF %s THEN said := json_object(%L::text[], ARRAY[%L, %L, place::text, moment::text, %L, %s, '
                      '(%s)::text, (%s)::text, %L%s]::text[])::text; END IF;\n', sizes,
                      '{table,epoch,position,at,operation,actor,shard,also,columns' || image.keys || '}',
                      wanted::text, s.epoch::text, op, actor,
                      CASE op WHEN 'DELETE' THEN shard_old WHEN 'TRUNCATE' THEN '-1' ELSE shard_new END,
                      CASE WHEN op = 'UPDATE' THEN shard_also ELSE 'NULL' END, shape, image.fields);
  END LOOP;
  -- Signed, for anybody may send notifications. For this policy, for a copy may be sent to another one's channel.
  RETURN part || format($text$    END IF;
    -- Not STRICT: to a snapshot from before the installation there is none, and the row goes into the outbox.
    SELECT k.secret INTO signed_by FROM pgtier.shadow_payload_key AS k;
    said := left(encode(sha256(convert_to(signed_by || '%s' || said || signed_by, getdatabaseencoding())), 'hex'), 32)
      || ' ' || said;
    IF octet_length(said) < 8000 THEN
      PERFORM pg_notify(%L, said), set_config('pgtier.payload_bytes',
        (CASE WHEN sent ~ '^[0-9]{1,6}$' THEN sent::integer ELSE 0 END + octet_length(said))::text, true);
      RETURN NULL;
    END IF;
  END IF;
$text$, s.number, pgtier.shadow_payload_channel(t.policy));
END
$fn$;

-- The INSERT into the outbox of rows that were sent. $1: them. Columns are found by number and type: one that was renamed
-- meanwhile by what it is now, one that was dropped or got another type by what the history kept of it. Fails where a row has a value without
-- a place: the table may have got another history.
DROP FUNCTION IF EXISTS pgtier.shadow_accept_sql(integer, text);
CREATE OR REPLACE FUNCTION pgtier.shadow_accept_sql(wanted integer, shape text, sent json[]) RETURNS text
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  places record;
  c record;
  homeless text[];
  names text := 'epoch, "position", at_utc, operation, actor, pgtier_shard, pgtier_also';
  fields text := 'x.epoch, x."position", x.at, x.operation, x.actor, x.shard, x.also';
  defs text := 'epoch bigint, "position" bigint, at timestamptz, operation text, actor text, shard smallint, also smallint';
BEGIN
  SELECT * INTO places FROM pgtier.shadow_places(wanted);
  IF places.outbox IS NULL THEN RAISE EXCEPTION 'the table has left its policy' USING ERRCODE = '55000'; END IF;
  -- Against DDL, from before its columns are looked at.
  EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', places.outbox_sql);
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  FOR c IN SELECT k.attnum, k.type, k.places, coalesce(now.new_column, was.new_column) AS new_column,
                  coalesce(now.old_column, was.old_column) AS old_column, now.attnum IS NULL AND was.id IS NULL AS unknown
           FROM (SELECT split_part(part, ':', 1)::smallint AS attnum, split_part(part, ':', 2)::oid AS type,
                        split_part(part, ':', 3) AS places
                 FROM unnest(string_to_array(shape, ' ')) AS part WHERE part NOT LIKE '0:%') AS k
           LEFT JOIN pgtier.shadow_columns AS now ON (now.table_id, now.attnum, now.type) = (wanted, k.attnum, k.type)
           LEFT JOIN LATERAL (SELECT * FROM pgtier.shadow_renames AS r
                              WHERE now.attnum IS NULL AND r.table_id = wanted AND r.attnum = k.attnum
                                AND r.was_type = k.type AND r.change IN ('drop', 'type')
                              ORDER BY r.id DESC LIMIT 1) AS was ON true ORDER BY k.attnum LOOP
    IF c.unknown THEN
      RAISE EXCEPTION 'the source has no column % of type % any more', c.attnum, c.type USING ERRCODE = '55000';
    END IF;
    IF c.new_column IS NULL AND c.places ~ 'n' THEN homeless := homeless || ('n' || c.attnum); END IF;
    IF c.old_column IS NULL AND c.places ~ 'o' THEN homeless := homeless || ('o' || c.attnum); END IF;
    IF c.new_column IS NOT NULL THEN
      names := names || ', ' || quote_ident(c.new_column);
      -- Of JSON the function would make a JSON string.
      fields := fields || format(CASE WHEN c.type IN (114, 3802) THEN ', x.n%s::%s' ELSE ', x.n%s' END, c.attnum,
                                 format_type(c.type, -1));
      defs := defs || format(', n%s %s', c.attnum, CASE WHEN c.type IN (114, 3802) THEN 'text' ELSE format_type(c.type, -1) END);
    END IF;
    IF c.old_column IS NOT NULL THEN
      names := names || ', ' || quote_ident(c.old_column);
      fields := fields || format(CASE WHEN c.type IN (114, 3802) THEN ', x.o%s::%s' ELSE ', x.o%s' END, c.attnum,
                                 format_type(c.type, -1));
      defs := defs || format(', o%s %s', c.attnum, CASE WHEN c.type IN (114, 3802) THEN 'text' ELSE format_type(c.type, -1) END);
    END IF;
  END LOOP;
  IF t.new_row IS NOT NULL THEN
    names := names || ', ' || quote_ident(t.new_row);
    fields := fields || ', x.nr::jsonb';
    defs := defs || ', nr text';
  END IF;
  IF t.old_row IS NOT NULL THEN
    names := names || ', ' || quote_ident(t.old_row);
    fields := fields || ', x."or"::jsonb';
    defs := defs || ', "or" text';
  END IF;
  IF t.new_row IS NULL AND shape ~ '^0:0:n' THEN homeless := homeless || 'nr'::text; END IF;
  IF t.old_row IS NULL AND shape ~ '^0:0:n?o' THEN homeless := homeless || 'or'::text; END IF;
  IF EXISTS (SELECT FROM unnest(homeless) AS k, unnest(sent) AS r WHERE r ->> k IS NOT NULL) THEN
    RAISE EXCEPTION 'the history has no place for a value any more' USING ERRCODE = '55000';
  END IF;
  RETURN format('INSERT INTO %s (%s) SELECT %s FROM unnest($1) AS r, json_to_record(r) AS x (%s) '
                'ORDER BY x."position" ON CONFLICT DO NOTHING', places.outbox_sql, names, fields, defs);
END
$fn$;

-- Rows of one table into its outbox. One that can't be read goes into shadow_dead_letters, as it came; gives how many.
CREATE OR REPLACE FUNCTION pgtier.shadow_accept_rows(wanted integer, shape text, sent json[]) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  half integer := cardinality(sent) / 2;
BEGIN
  BEGIN
    EXECUTE pgtier.shadow_accept_sql(wanted, shape, sent) USING sent;
    RETURN 0;
  EXCEPTION
    -- What may pass is tried again, with all of them.
    WHEN lock_not_available OR transaction_rollback OR insufficient_resources OR operator_intervention OR system_error THEN
      RAISE;
    WHEN OTHERS THEN
      IF cardinality(sent) = 1 THEN
        INSERT INTO pgtier.shadow_dead_letters (policy, source, epoch, "position", payload, error)
          SELECT t.policy, format('%I.%I', t.source_schema, t.source_name), (sent[1] ->> 'epoch')::bigint,
                 (sent[1] ->> 'position')::bigint, convert_to(sent[1]::text, 'UTF8'), sqlerrm
          FROM pgtier.shadow_tables AS t WHERE t.id = wanted;
        RETURN 1;
      END IF;
  END;
  RETURN pgtier.shadow_accept_rows(wanted, shape, sent[:half]) + pgtier.shadow_accept_rows(wanted, shape, sent[half + 1:]);
END
$fn$;

-- What a worker has heard on the policy's channel, in its order, into the outboxes. `taken`: rows; `buried`: rows in
-- shadow_dead_letters; `strange`: notifications that pgtier has not sent; `beat`: the newest shadow_beat among them.
CREATE OR REPLACE FUNCTION pgtier.shadow_accept(wanted text, payloads text[], OUT taken bigint, OUT buried bigint,
                                                OUT strange bigint, OUT beat text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET lc_monetary = 'C' SET xmloption = 'content' SET jit = off
AS $fn$
DECLARE
  signed_by text := (SELECT k.secret FROM pgtier.shadow_payload_key AS k);
  s pgtier.shadow_state;
  ours json[];
  g record;
  failed bigint;
BEGIN
  taken := 0; buried := 0;
  PERFORM set_config('lock_timeout', '500ms', true);
  SELECT * INTO s FROM pgtier.shadow_state WHERE policy = wanted;
  SELECT coalesce(array_agg(substr(p.said, 34)::json ORDER BY p.n), '{}') INTO ours
    FROM unnest(payloads) WITH ORDINALITY AS p (said, n)
    WHERE left(p.said, 33) = left(encode(sha256(convert_to(signed_by || s.number || substr(p.said, 34) || signed_by,
                                                           getdatabaseencoding())), 'hex'), 32) || ' ';
  strange := cardinality(payloads) - cardinality(ours);
  FOR g IN SELECT (r ->> 'table')::integer AS id, r ->> 'columns' AS shape, array_agg(r) AS sent
           FROM unnest(ours) AS r WHERE r ->> 'table' IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2 LOOP
    failed := pgtier.shadow_accept_rows(g.id, g.shape, g.sent);
    taken := taken + cardinality(g.sent) - failed;
    buried := buried + failed;
  END LOOP;
  FOR g IN SELECT r ->> 'beat' AS at, (r ->> 'end')::bigint AS ended FROM unnest(ours) AS r
           WHERE r ->> 'beat' IS NOT NULL ORDER BY (r ->> 'beat')::timestamptz DESC LIMIT 1 LOOP
    beat := g.at;
    UPDATE pgtier.shadow_listeners SET heard = greatest(heard, g.at::timestamptz), heard_end = greatest(heard_end, g.ended)
      WHERE policy = wanted;
  END LOOP;
  -- As the triggers of the outbox do: who moves rows may sleep.
  IF taken > 0 AND s.channel <> '' AND NOT pg_try_advisory_xact_lock_shared(7047001, s.number) THEN
    PERFORM pg_notify(s.channel, '');
  END IF;
END
$fn$;

-- Who listens sends itself one of these: when it is heard, all that was committed before has been. Gives what is said.
CREATE OR REPLACE FUNCTION pgtier.shadow_beat(wanted text) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $fn$
DECLARE
  signed_by text := (SELECT k.secret FROM pgtier.shadow_payload_key AS k);
  at text := clock_timestamp()::text;
  number text;
  said text;
BEGIN
  SELECT s.number::text, json_object('{beat,end}', ARRAY[at, s.payload_end::text])::text INTO number, said
    FROM pgtier.shadow_state AS s WHERE s.policy = wanted;
  PERFORM pg_notify(pgtier.shadow_payload_channel(wanted),
                    left(encode(sha256(convert_to(signed_by || number || said || signed_by, getdatabaseencoding())), 'hex'),
                         32) || ' ' || said);
  RETURN at;
END
$fn$;

-- A worker listens from now on (LISTEN has been committed). What was sent and not handled before is gone: it is written
-- down between which times that may have been. Gives whether it was.
CREATE OR REPLACE FUNCTION pgtier.shadow_listen_begin(wanted text) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  since timestamptz := (SELECT payload_since FROM pgtier.shadow_state WHERE policy = wanted);
  l pgtier.shadow_listeners;
  gap boolean;
BEGIN
  SELECT * INTO l FROM pgtier.shadow_listeners WHERE policy = wanted FOR UPDATE;
  -- Without a listener nothing was ever sent; one that ended in order has heard all.
  gap := FOUND AND NOT l.ended AND since IS NOT NULL;
  IF gap THEN
    INSERT INTO pgtier.shadow_gaps (policy, since, until) VALUES (wanted, greatest(l.heard, since), clock_timestamp());
  END IF;
  INSERT INTO pgtier.shadow_listeners (policy, heard) VALUES (wanted, clock_timestamp())
    ON CONFLICT (policy) DO UPDATE SET heard = clock_timestamp(), ended = false;
  RETURN gap;
END
$fn$;

-- It has given K back, all who may have sent before have ended, and a beat of after that was heard: nothing is missing.
CREATE OR REPLACE FUNCTION pgtier.shadow_listen_end(wanted text) RETURNS void
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $fn$
  UPDATE pgtier.shadow_listeners SET ended = true, heard = clock_timestamp() WHERE policy = wanted
$fn$;

-- Virtual transactions that may have asked for K: each has held a lock on a source since before it asked.
CREATE OR REPLACE FUNCTION pgtier.shadow_payload_writers(wanted text) RETURNS text[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  RETURN (SELECT coalesce(array_agg(DISTINCT l.virtualtransaction), '{}') FROM pg_locks AS l
          WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            -- Not those of VACUUM, ANALYZE and CREATE INDEX, which write no rows.
            AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
            AND l.relation = ANY (pgtier.shadow_policy_relations(wanted)));
END
$fn$;

-- Between the two deliveries, as between triggers and notify: only the functions' text changes. Away from Payload the
-- policy is draining until all that was sent has been heard (shadow_drained).
CREATE OR REPLACE FUNCTION pgtier.shadow_deliver(wanted text, sends boolean) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_state;
BEGIN
  s := pgtier.shadow_held_state(wanted);
  IF s.payload = sends THEN RETURN; END IF;
  IF s.tier <> 'notify' THEN
    RAISE EXCEPTION 'delivery belongs to tier notify, and the policy % is in %', wanted, s.tier USING ERRCODE = '55000';
  END IF;
  DELETE FROM pgtier.shadow_waits WHERE policy = wanted;
  UPDATE pgtier.shadow_state
    SET payload = sends, payload_ending = false, waits_taken = false, draining = NOT sends, changed_at = now(),
        payload_since = CASE WHEN sends THEN coalesce(payload_since, clock_timestamp()) ELSE payload_since END
    WHERE policy = wanted;
  PERFORM pgtier.shadow_set_functions(wanted);
END
$fn$;

-- Of shadow_drained, when nobody runs a text that sends any more: whether all that was sent has been heard. The number of
-- the end is in every beat from now on, and comes behind all of it.
CREATE OR REPLACE FUNCTION pgtier.shadow_payload_heard(wanted text) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_state;
BEGIN
  SELECT * INTO STRICT s FROM pgtier.shadow_state WHERE policy = wanted;
  IF s.payload OR s.payload_since IS NULL THEN RETURN true; END IF;
  IF NOT s.payload_ending THEN
    UPDATE pgtier.shadow_state SET payload_ending = true, payload_end = payload_end + 1 WHERE policy = wanted
      RETURNING * INTO s;
  END IF;
  -- Who ended in order has heard all; where nobody ever listened nothing was sent.
  IF EXISTS (SELECT FROM pgtier.shadow_listeners WHERE policy = wanted AND NOT ended AND heard_end < s.payload_end) THEN
    RETURN false;
  END IF;
  UPDATE pgtier.shadow_state SET payload_since = NULL, payload_ending = false WHERE policy = wanted;
  RETURN true;
END
$fn$;
