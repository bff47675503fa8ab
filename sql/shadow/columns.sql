-- Names, types and the columns of a history; what a change of the source's columns does to them.

-- "public.t", "\"My Schema\".\"T\"", t (of schema public), as schema and name.
CREATE OR REPLACE FUNCTION pgtier.shadow_names(wanted text, OUT schema_name text, OUT table_name text)
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  parts text[] := parse_ident(wanted);
BEGIN
  IF cardinality(parts) > 2 THEN
    RAISE EXCEPTION 'not a table''s name: %', wanted USING ERRCODE = '42602';
  END IF;
  schema_name := CASE cardinality(parts) WHEN 2 THEN parts[1] ELSE 'public' END;
  table_name := parts[cardinality(parts)];
END
$fn$;

-- The publication of a slot, as PublicationName of shadow/names.cc: one that would be cut off ends in a hash.
CREATE OR REPLACE FUNCTION pgtier.shadow_publication(slot text) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT CASE WHEN length('pgtier_' || slot) <= 63 THEN 'pgtier_' || slot
              ELSE left('pgtier_' || slot, 54) || '_' || left(encode(sha256(convert_to(slot, 'UTF8')), 'hex'), 8) END
$fn$;

-- The relation's oid; NULL when there is none.
CREATE OR REPLACE FUNCTION pgtier.shadow_oid(schema_name text, table_name text) RETURNS oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = schema_name AND c.relname = table_name
$fn$;

-- A type under its domains.
CREATE OR REPLACE FUNCTION pgtier.shadow_type(wanted oid) RETURNS oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  WITH RECURSIVE base AS (
    SELECT wanted AS oid
    UNION ALL
    SELECT t.typbasetype FROM base JOIN pg_type AS t ON t.oid = base.oid WHERE t.typtype = 'd')
  SELECT base.oid FROM base JOIN pg_type AS t ON t.oid = base.oid WHERE t.typtype <> 'd'
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_has_column(relation oid, wanted text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT EXISTS (SELECT FROM pg_attribute
                 WHERE attrelid = relation AND attname = wanted AND attnum > 0 AND NOT attisdropped)
$fn$;

-- `wanted`, cut to a name's length, or with __2, __3, … where the relation has a column of that name.
CREATE OR REPLACE FUNCTION pgtier.shadow_free_name(relation oid, wanted text) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  free text := wanted::name;
  n integer := 1;
BEGIN
  WHILE pgtier.shadow_has_column(relation, free) LOOP
    n := n + 1;
    free := left(wanted::name::text, 40) || '__' || n;
    free := free::name;
  END LOOP;
  RETURN free;
END
$fn$;

-- A history's relation, its outbox' relation, and both as SQL writes them.
CREATE OR REPLACE FUNCTION pgtier.shadow_places(wanted integer, OUT history oid, OUT outbox oid, OUT history_sql text,
                                                OUT outbox_sql text)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT pgtier.shadow_oid(history_schema, history_name), pgtier.shadow_oid('pgtier', 'outbox_' || id),
         format('%I.%I', history_schema, history_name), format('pgtier.%I', 'outbox_' || id)
  FROM pgtier.shadow_tables WHERE id = wanted
$fn$;

-- Gives a column of history and outbox another name; what has that name already makes room.
CREATE OR REPLACE FUNCTION pgtier.shadow_rename_column(wanted integer, was text, becomes text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  places record;
  away text;
BEGIN
  IF was = becomes THEN RETURN; END IF;
  SELECT * INTO places FROM pgtier.shadow_places(wanted);
  IF pgtier.shadow_has_column(places.history, becomes) THEN
    away := pgtier.shadow_free_name(places.history, becomes || '__2');
    PERFORM pgtier.shadow_rename_column(wanted, becomes, away);
    UPDATE pgtier.shadow_renames SET new_column = away WHERE table_id = wanted AND new_column = becomes;
    UPDATE pgtier.shadow_renames SET old_column = away WHERE table_id = wanted AND old_column = becomes;
  END IF;
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', places.history_sql, was, becomes);
  IF places.outbox IS NOT NULL AND pgtier.shadow_has_column(places.outbox, was) THEN
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', places.outbox_sql, was, becomes);
  END IF;
  UPDATE pgtier.shadow_columns SET new_column = becomes WHERE table_id = wanted AND new_column = was;
  UPDATE pgtier.shadow_columns SET old_column = becomes WHERE table_id = wanted AND old_column = was;
  UPDATE pgtier.shadow_renames SET new_column = becomes WHERE table_id = wanted AND new_column = was;
  UPDATE pgtier.shadow_renames SET old_column = becomes WHERE table_id = wanted AND old_column = was;
END
$fn$;

-- A column of that type for history and outbox: one that is left from before, else a new one. Gives its name. Types come
-- without their modifiers: a history takes what a varchar(10) that became a varchar(20) holds.
CREATE OR REPLACE FUNCTION pgtier.shadow_add_column(wanted integer, column_name text, column_type oid) RETURNS text
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  places record;
  type_sql text := format_type(column_type, -1);
  fits boolean;
  free text := column_name::name;
  used boolean;
BEGIN
  SELECT * INTO places FROM pgtier.shadow_places(wanted);
  SELECT atttypid = column_type INTO fits FROM pg_attribute
    WHERE attrelid = places.history AND attname = free AND attnum > 0 AND NOT attisdropped;
  SELECT EXISTS (SELECT FROM pgtier.shadow_columns
                 WHERE table_id = wanted AND (new_column = free OR old_column = free))
         OR pgtier.shadow_row_column(places.history, free) INTO used;
  IF used OR free IN ('epoch', 'position', 'at_utc', 'operation', 'actor') THEN
    free := pgtier.shadow_free_name(places.history, free);
    fits := NULL;
  ELSIF NOT fits THEN
    PERFORM pgtier.shadow_rename_column(wanted, free, pgtier.shadow_free_name(places.history, free || '__2'));
    fits := NULL;
  END IF;
  IF fits IS NULL THEN
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', places.history_sql, free, type_sql);
  END IF;
  IF places.outbox IS NOT NULL AND NOT pgtier.shadow_has_column(places.outbox, free) THEN
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', places.outbox_sql, free, type_sql);
  END IF;
  RETURN free;
END
$fn$;

-- Columns of the source that are recorded: by attribute number, name and type under its domains.
CREATE OR REPLACE FUNCTION pgtier.shadow_source_columns(relation oid)
  RETURNS TABLE (attnum smallint, name text, type oid)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT a.attnum, a.attname::text, pgtier.shadow_type(a.atttypid) FROM pg_attribute AS a
  WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum
$fn$;

-- Whether the source's columns are what they were when the history was last brought into line.
CREATE OR REPLACE FUNCTION pgtier.shadow_columns_agree(wanted integer) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT NOT EXISTS (
    SELECT FROM (SELECT attnum, name, type FROM pgtier.shadow_columns WHERE table_id = wanted) AS known
    FULL JOIN (SELECT s.* FROM pgtier.shadow_tables AS t, pgtier.shadow_source_columns(t.source) AS s
               WHERE t.id = wanted) AS found USING (attnum, name, type)
    WHERE known IS NULL OR found IS NULL)
$fn$;

-- Keeps the worker's hands off the outbox until the transaction ends: it takes a shard's lock before the tables'.
CREATE OR REPLACE FUNCTION pgtier.shadow_hold_outbox(wanted integer) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT pg_advisory_xact_lock(7047004, wanted * 64 + s) FROM generate_series(0, 63) AS s
$fn$;

-- Brings history, outbox and what is known of the columns into line with the source. The source is locked against DDL.
CREATE OR REPLACE FUNCTION pgtier.shadow_follow_columns(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  c record;
BEGIN
  IF pgtier.shadow_columns_agree(wanted) THEN RETURN; END IF;
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  PERFORM pgtier.shadow_hold_outbox(wanted);
  -- Dropped: the history keeps its columns.
  FOR c IN SELECT k.* FROM pgtier.shadow_columns AS k WHERE k.table_id = wanted
           AND NOT EXISTS (SELECT FROM pgtier.shadow_source_columns(t.source) AS s WHERE s.attnum = k.attnum) LOOP
    INSERT INTO pgtier.shadow_renames (table_id, attnum, change, was_name, was_type, new_column, old_column)
      VALUES (wanted, c.attnum, 'drop', c.name, c.type, c.new_column, c.old_column);
    DELETE FROM pgtier.shadow_columns WHERE table_id = wanted AND attnum = c.attnum;
  END LOOP;
  -- Renamed: by way of names that nothing has, so that two columns may change places.
  FOR c IN SELECT k.*, s.name AS becomes FROM pgtier.shadow_columns AS k
           JOIN pgtier.shadow_source_columns(t.source) AS s USING (attnum)
           WHERE k.table_id = wanted AND s.name <> k.name LOOP
    INSERT INTO pgtier.shadow_renames (table_id, attnum, change, was_name, was_type, now_name, new_column, old_column)
      VALUES (wanted, c.attnum, 'rename', c.name, c.type, c.becomes, c.new_column, c.old_column);
    IF c.new_column IS NOT NULL THEN
      PERFORM pgtier.shadow_rename_column(wanted, c.new_column, 'pgtier new ' || c.attnum);
    END IF;
    IF c.old_column IS NOT NULL THEN
      PERFORM pgtier.shadow_rename_column(wanted, c.old_column, 'pgtier old ' || c.attnum);
    END IF;
  END LOOP;
  FOR c IN SELECT k.*, s.name AS becomes FROM pgtier.shadow_columns AS k
           JOIN pgtier.shadow_source_columns(t.source) AS s USING (attnum)
           WHERE k.table_id = wanted AND s.name <> k.name LOOP
    IF c.becomes IN ('epoch', 'position', 'at_utc', 'operation', 'actor', 'pgtier_shard', 'pgtier_also') THEN
      RAISE EXCEPTION '%.% can''t be named %: its history %.% has a column of pgtier''s of that name. Choose another name',
        t.source_schema, t.source_name, c.becomes, t.history_schema, t.history_name USING ERRCODE = '55000';
    END IF;
    IF c.new_column IS NOT NULL THEN
      PERFORM pgtier.shadow_rename_column(wanted, c.new_column, c.becomes::name::text);
    END IF;
    IF c.old_column IS NOT NULL THEN
      PERFORM pgtier.shadow_rename_column(wanted, c.old_column, ('old_' || c.becomes)::name::text);
    END IF;
    UPDATE pgtier.shadow_columns SET name = c.becomes WHERE table_id = wanted AND attnum = c.attnum;
  END LOOP;
  -- Of another type: what was recorded stays in columns of its own.
  FOR c IN SELECT k.*, s.type AS becomes FROM pgtier.shadow_columns AS k
           JOIN pgtier.shadow_source_columns(t.source) AS s USING (attnum)
           WHERE k.table_id = wanted AND s.type <> k.type LOOP
    INSERT INTO pgtier.shadow_renames (table_id, attnum, change, was_name, was_type, now_name, new_column, old_column)
      VALUES (wanted, c.attnum, 'type', c.name, c.type, c.name, c.new_column, c.old_column);
    UPDATE pgtier.shadow_columns SET type = c.becomes, new_column = NULL, old_column = NULL
      WHERE table_id = wanted AND attnum = c.attnum;
    IF c.new_column IS NOT NULL THEN
      c.new_column := pgtier.shadow_add_column(wanted, c.new_column, c.becomes);
      UPDATE pgtier.shadow_columns SET new_column = c.new_column WHERE table_id = wanted AND attnum = c.attnum;
    END IF;
    IF c.old_column IS NOT NULL THEN
      c.old_column := pgtier.shadow_add_column(wanted, c.old_column, c.becomes);
      UPDATE pgtier.shadow_columns SET old_column = c.old_column WHERE table_id = wanted AND attnum = c.attnum;
    END IF;
  END LOOP;
  -- New.
  FOR c IN SELECT s.* FROM pgtier.shadow_source_columns(t.source) AS s
           WHERE NOT EXISTS (SELECT FROM pgtier.shadow_columns AS k
                             WHERE k.table_id = wanted AND k.attnum = s.attnum) LOOP
    IF t.follows AND c.name IN ('epoch', 'position', 'at_utc', 'operation', 'actor', 'pgtier_shard', 'pgtier_also') THEN
      RAISE EXCEPTION '%.% can''t have a column %: its history %.% has one of pgtier''s of that name. Choose another name',
        t.source_schema, t.source_name, c.name, t.history_schema, t.history_name USING ERRCODE = '55000';
    END IF;
    INSERT INTO pgtier.shadow_columns (table_id, attnum, name, type) VALUES (wanted, c.attnum, c.name, c.type);
    CONTINUE WHEN NOT t.follows;
    UPDATE pgtier.shadow_columns SET new_column = pgtier.shadow_add_column(wanted, c.name, c.type)
      WHERE table_id = wanted AND attnum = c.attnum;
    UPDATE pgtier.shadow_columns SET old_column = pgtier.shadow_add_column(wanted, 'old_' || c.name, c.type)
      WHERE table_id = wanted AND attnum = c.attnum;
  END LOOP;
END
$fn$;
