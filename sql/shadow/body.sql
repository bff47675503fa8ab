-- The trigger functions: one a source, plpgsql with static SQL only, so that a row costs one cached plan. Names, epoch
-- and actor are written into the text; a swap of tiers replaces the text.

-- What fills the history's columns of the source: 'NEW.a, NEW.b' and their names. One line each of a row's image.
CREATE OR REPLACE FUNCTION pgtier.shadow_image(wanted integer, operation text, OUT names text, OUT fields text)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
BEGIN
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  WITH parts AS (
    SELECT 1 AS part, attnum, quote_ident(new_column) AS name,
           CASE operation WHEN 'DELETE' THEN 'OLD.' ELSE 'NEW.' END || quote_ident(shadow_columns.name) AS field
    FROM pgtier.shadow_columns WHERE table_id = wanted AND new_column IS NOT NULL
    UNION ALL
    SELECT 2, attnum, quote_ident(old_column), 'OLD.' || quote_ident(shadow_columns.name)
    FROM pgtier.shadow_columns WHERE table_id = wanted AND old_column IS NOT NULL AND operation = 'UPDATE'
    UNION ALL
    SELECT 3, 1, quote_ident(t.new_row), 'to_jsonb(NEW)' WHERE t.new_row IS NOT NULL AND operation <> 'DELETE'
    UNION ALL
    SELECT 3, 2, quote_ident(t.old_row), 'to_jsonb(OLD)' WHERE t.old_row IS NOT NULL AND operation <> 'INSERT')
  SELECT coalesce(string_agg(', ' || parts.name, '' ORDER BY part, attnum), ''),
         coalesce(string_agg(', ' || parts.field, '' ORDER BY part, attnum), '')
    INTO names, fields FROM parts;
END
$fn$;

-- The text of a source's trigger function. `body` is triggers or notify. The comment at its head names the source's
-- columns and types: another type makes another text, hence a new function, without plans of the old one.
CREATE OR REPLACE FUNCTION pgtier.shadow_body(wanted integer, body text) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  s pgtier.shadow_state;
  places record;
  image record;
  place text;
  meta text;
  head text;
  clock text := 'clock_timestamp()';
  shard_new text;
  shard_old text;
  text_of text;
  op text;
  drawn text := format('nextval(%L::regclass)', format('pgtier.position_%s', wanted));
  actor text;
  sends boolean := body = 'notify' AND pgtier.shadow_sends(wanted);
BEGIN
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  SELECT * INTO STRICT s FROM pgtier.shadow_state WHERE policy = t.policy;
  SELECT * INTO places FROM pgtier.shadow_places(wanted);
  meta := 'epoch, "position", at_utc, operation, actor';
  IF body = 'notify' THEN
    place := places.outbox_sql;
    meta := meta || ', pgtier_shard, pgtier_also';
    IF t.shards = 1 THEN
      shard_new := '0';
      shard_old := '0';
    ELSE
      SELECT format('(hash_record_extended(ROW(%s), 0) & %s)::smallint',
                    string_agg('NEW.' || quote_ident(k), ', ' ORDER BY n), t.shards - 1) INTO shard_new
        FROM unnest(t.key) WITH ORDINALITY AS keys (k, n);
      SELECT format('(hash_record_extended(ROW(%s), 0) & %s)::smallint',
                    string_agg('OLD.' || quote_ident(k), ', ' ORDER BY n), t.shards - 1) INTO shard_old
        FROM unnest(t.key) WITH ORDINALITY AS keys (k, n);
    END IF;
  ELSE
    place := places.history_sql;
    IF (SELECT atttypid FROM pg_attribute WHERE attrelid = places.history AND attname = 'at_utc')
       = 'timestamp'::regtype THEN
      clock := 'timezone(''UTC'', clock_timestamp())';
    END IF;
  END IF;
  -- Names may hold line ends: they must not end the comment.
  SELECT translate(format('-- pgtier %s of %I.%I; columns: %s', body, t.source_schema, t.source_name,
                          string_agg(format('%s %s %s', attnum, name, format_type(type, -1)), ', ' ORDER BY attnum)),
                   E'\r\n', '  ')
    INTO text_of FROM pgtier.shadow_columns WHERE table_id = wanted;
  actor := CASE WHEN s.actor_setting = '' THEN 'NULL'
                ELSE format('nullif(current_setting(%L, true), '''')', s.actor_setting) END;
  IF sends THEN
    text_of := text_of || pgtier.shadow_payload_part(wanted, actor, shard_new, shard_old,
                            CASE WHEN t.shards > 1 THEN format('nullif(%s, %s)', shard_old, shard_new) ELSE 'NULL' END);
    drawn := 'place';
    clock := 'moment';
  ELSE
    text_of := text_of || E'\nBEGIN\n';
  END IF;
  FOREACH op IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] LOOP
    SELECT names, fields INTO image FROM pgtier.shadow_image(wanted, op);
    IF op = 'TRUNCATE' THEN SELECT '' AS names, '' AS fields INTO image; END IF;
    head := format('%s, %s, %s, %L, %s', s.epoch, drawn, clock, op, actor);
    IF body = 'notify' THEN
      head := head || ', ' || CASE op WHEN 'DELETE' THEN shard_old WHEN 'TRUNCATE' THEN '-1' ELSE shard_new END
                   || ', ' || CASE WHEN op = 'UPDATE' AND t.shards > 1
                                   THEN format('nullif(%s, %s)', shard_old, shard_new) ELSE 'NULL' END;
    END IF;
    text_of := text_of || CASE op WHEN 'INSERT' THEN '  IF TG_OP = ''INSERT'' THEN'
                                  WHEN 'TRUNCATE' THEN '  ELSE'
                                  ELSE format('  ELSIF TG_OP = %L THEN', op) END
               || format(E'\n    INSERT INTO %s (%s%s)\n    VALUES (%s%s);\n', place, meta, image.names, head,
                         image.fields);
  END LOOP;
  text_of := text_of || E'  END IF;\n';
  -- A sleeping worker holds the lock: it is woken. Where transactions may be prepared, NOTIFY would stop PREPARE.
  IF body = 'notify' AND s.channel <> '' AND current_setting('max_prepared_transactions') = '0' THEN
    text_of := text_of || format(E'  IF NOT pg_try_advisory_xact_lock_shared(7047001, %s) THEN\n'
                                 '    PERFORM pg_notify(%L, '''');\n  END IF;\n', s.number, s.channel);
  END IF;
  RETURN text_of || E'  RETURN NULL;\nEND\n';
END
$fn$;

-- What the function's text is to be in the policy's tier. In cdc the row triggers rest; the text is that of triggers.
CREATE OR REPLACE FUNCTION pgtier.shadow_wanted_body(wanted integer) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT pgtier.shadow_body(wanted, CASE s.tier WHEN 'notify' THEN 'notify' ELSE 'triggers' END)
  FROM pgtier.shadow_tables AS t JOIN pgtier.shadow_state AS s USING (policy) WHERE t.id = wanted
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_function_oid(wanted integer) RETURNS oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT p.oid FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
  WHERE n.nspname = 'pgtier' AND p.proname = 'shadow_' || wanted AND p.pronargs = 0
$fn$;

-- The settings that the function runs with, as pg_proc.proconfig has them. Whole rows as JSON, and rows that are sent,
-- hold text whose form the application's settings would give; other functions need none of it, and a setting costs at
-- each row.
CREATE OR REPLACE FUNCTION pgtier.shadow_function_config(wanted integer) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT ARRAY['search_path=pg_catalog, pg_temp']
         || CASE WHEN new_row IS NULL AND old_row IS NULL AND NOT pgtier.shadow_sends(id) THEN '{}'::text[]
                 ELSE ARRAY['DateStyle=ISO, YMD', 'IntervalStyle=postgres', 'bytea_output=hex', 'extra_float_digits=1',
                            'lc_monetary=C'] END
  FROM pgtier.shadow_tables WHERE id = wanted
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_function_agrees(wanted integer) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT coalesce((SELECT p.prosrc = pgtier.shadow_wanted_body(wanted) AND p.prosecdef
                          AND p.proowner = 'pgtier_shadow'::regrole
                          AND p.proconfig = pgtier.shadow_function_config(wanted)
                          AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
                   FROM pg_proc AS p WHERE p.oid = pgtier.shadow_function_oid(wanted)), false)
$fn$;

-- Makes the function what it is to be, when it is not. REPLACE drops SECURITY DEFINER and SET, so they are said again.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_function(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  IF pgtier.shadow_function_agrees(wanted) THEN RETURN; END IF;
  EXECUTE format('CREATE OR REPLACE FUNCTION pgtier.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER %s AS %L',
                 'shadow_' || wanted,
                 -- In quotes, but for the list of names.
                 (SELECT string_agg(CASE WHEN n = 1 THEN 'SET ' || replace(c, '=', ' = ')
                                         ELSE format('SET %s = %L', split_part(c, '=', 1), split_part(c, '=', 2)) END,
                                    ' ' ORDER BY n)
                  FROM unnest(pgtier.shadow_function_config(wanted)) WITH ORDINALITY AS k (c, n)),
                 pgtier.shadow_wanted_body(wanted));
  IF (SELECT proowner FROM pg_proc WHERE oid = pgtier.shadow_function_oid(wanted)) <> 'pgtier_shadow'::regrole THEN
    PERFORM pgtier.shadow_give(format('FUNCTION pgtier.%I()', 'shadow_' || wanted));
  END IF;
  EXECUTE format('REVOKE ALL ON FUNCTION pgtier.%I() FROM PUBLIC', 'shadow_' || wanted);
END
$fn$;

-- All functions of a policy: after a change of tier, epoch, actor or channel.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_functions(wanted text) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT pgtier.shadow_set_function(id) FROM pgtier.shadow_tables WHERE policy = wanted AND installed ORDER BY id
$fn$;
