-- The first partition, which holds all of the past, is split into periods once its end is past: by a copy beside it, in
-- pieces, which is compared with it and takes its place in one short transaction. Rows that still come for it (of a
-- consumer that is behind) are caught by a trigger. See docs/decisions/0047.

CREATE TABLE IF NOT EXISTS pgtier.shadow_splits (
  relation    oid     PRIMARY KEY,  -- the partition that is split
  parent      oid     NOT NULL,
  copy        oid     NOT NULL,     -- the table with a partition a period that takes its place
  late        oid     NOT NULL,     -- rows that came after the copy was begun
  blocks      bigint  NOT NULL,     -- that it had then: all others are in these
  next_block  bigint  NOT NULL DEFAULT 0,
  copied      bigint  NOT NULL DEFAULT 0,
  verified    boolean NOT NULL DEFAULT false,
  dirty       boolean NOT NULL DEFAULT false,  -- rows were changed meanwhile: the copy is worth nothing
  fingerprint text    NOT NULL
);
-- What runs as pgtier_shadow may say that a copy is worth nothing, and not which table is written to by who acts.
REVOKE UPDATE ON pgtier.shadow_splits FROM pgtier_shadow;
GRANT SELECT, UPDATE (dirty) ON pgtier.shadow_splits TO pgtier_shadow;

-- What comes into a partition that is being split. Whatever it can't do, the writer goes on: then the copy is made anew.
CREATE OR REPLACE FUNCTION pgtier.shadow_split_catch() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  IF TG_OP = 'INSERT' THEN
    BEGIN
      EXECUTE format('INSERT INTO pgtier.%I SELECT ($1).*', TG_ARGV[0]) USING NEW;
      RETURN NULL;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  UPDATE pgtier.shadow_splits SET dirty = true WHERE relation = TG_RELID AND NOT dirty;
  RETURN NULL;
END
$fn$;
DO $do$
BEGIN
  IF (SELECT proowner FROM pg_proc WHERE oid = 'pgtier.shadow_split_catch()'::regprocedure) <> 'pgtier_shadow'::regrole THEN
    PERFORM pgtier.shadow_give('FUNCTION pgtier.shadow_split_catch()');
  END IF;
END
$do$;

-- The partition of a table that may be split: the first one, past its end, of a history (whose rows have a number).
CREATE OR REPLACE FUNCTION pgtier.shadow_split_candidate(wanted text, by_column text) RETURNS oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT s.big FROM pgtier.shadow_partition_state(wanted, by_column) AS s
  WHERE s.state = 'partitioned' AND s.big_past
    AND (SELECT count(*) FROM pg_attribute WHERE attrelid = s.big AND attname IN ('epoch', 'position') AND NOT attisdropped) = 2
    AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = s.big AND attgenerated <> '')
$fn$;

-- Whether a copy is there and is still of who acts: until the last row is in it nobody else may put a trigger on it, which
-- would run with the rights of who copies. Who is no superuser has rights over the history's owner anyway.
CREATE OR REPLACE FUNCTION pgtier.shadow_copy_is_ours(copy oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_roles AS r ON r.rolname = current_user
                 WHERE c.oid = copy AND (c.relowner = r.oid OR NOT r.rolsuper))
$fn$;

-- A copy has the CHECKs, generated columns and indexes of its table, and they run with the rights of who copies: refused
-- where they call a function of somebody who is neither that nor a superuser. What preflight_history.sql asks of a history
-- before it is taken in may have changed since; of the copy it is asked before each row that goes into it, with the types
-- of its columns, which are not the copy's own.
CREATE OR REPLACE FUNCTION pgtier.shadow_refuse_code(copy oid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off  -- compiling it took 0.6 s, and it 20 ms
AS $fn$
DECLARE
  found text;
BEGIN
  WITH RECURSIVE relations AS (SELECT copy AS oid UNION SELECT relid::oid FROM pg_partition_tree(copy::regclass)),
  types (oid) AS (
    SELECT a.atttypid FROM relations JOIN pg_attribute AS a ON a.attrelid = relations.oid WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT n.oid FROM types AS t,
      LATERAL (SELECT typbasetype FROM pg_type WHERE oid = t.oid UNION SELECT typelem FROM pg_type WHERE oid = t.oid
               UNION SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = (SELECT typrelid FROM pg_type WHERE oid = t.oid)
                 AND a.attnum > 0 AND NOT a.attisdropped
               UNION SELECT g.rngsubtype FROM pg_range AS g WHERE t.oid IN (g.rngtypid, g.rngmultitypid)) AS n (oid)
    WHERE n.oid <> 0),
  expressions (classid, objid) AS (
    SELECT 'pg_class'::regclass, i.indexrelid FROM relations JOIN pg_index AS i ON i.indrelid = relations.oid
    UNION SELECT 'pg_class'::regclass, oid FROM relations
    UNION SELECT 'pg_attrdef'::regclass, d.oid FROM relations JOIN pg_attrdef AS d ON d.adrelid = relations.oid
    UNION SELECT 'pg_constraint'::regclass, c.oid FROM relations JOIN pg_constraint AS c ON c.conrelid = relations.oid
    UNION SELECT 'pg_trigger'::regclass, g.oid FROM relations JOIN pg_trigger AS g ON g.tgrelid = relations.oid
    UNION SELECT 'pg_rewrite'::regclass, w.oid FROM relations JOIN pg_rewrite AS w ON w.ev_class = relations.oid
    UNION SELECT 'pg_type'::regclass, oid FROM types
    UNION SELECT 'pg_type'::regclass, g.rngtypid FROM types JOIN pg_range AS g ON g.rngmultitypid = types.oid
    UNION SELECT 'pg_constraint'::regclass, c.oid FROM types JOIN pg_constraint AS c ON c.contypid = types.oid)
  SELECT string_agg(DISTINCT format('%s calls %s', pg_describe_object(e.classid, e.objid, 0), p.oid::regprocedure), '; ') INTO found
  FROM expressions AS e JOIN pg_depend AS d ON d.classid = e.classid AND d.objid = e.objid
  LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  JOIN pg_proc AS p ON p.oid = CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode END
  JOIN pg_roles AS w ON w.oid = p.proowner
  WHERE p.pronamespace <> 'pg_catalog'::regnamespace AND NOT w.rolsuper AND w.rolname <> current_user;
  IF found IS NOT NULL THEN
    RAISE EXCEPTION 'HistoryRunsCode: %, which would run with the rights of who copies; do without it: of the server''s own functions only',
      found USING ERRCODE = '55000';
  END IF;
END
$fn$;

-- Takes back what was begun.
CREATE OR REPLACE FUNCTION pgtier.shadow_split_forget(part oid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_splits;
  g record;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  -- First, for who compares it with the table reads it for long: nobody is to be held off meanwhile.
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = part;
  IF EXISTS (SELECT FROM pg_class WHERE oid = s.copy) THEN PERFORM pgtier.shadow_lock(ARRAY[s.copy], 'ACCESS EXCLUSIVE'); END IF;
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = part AND tgname LIKE 'pgtier\_split%') THEN
    PERFORM pgtier.shadow_lock(ARRAY[part], 'ACCESS EXCLUSIVE');
    FOR g IN SELECT tgname FROM pg_trigger WHERE tgrelid = part AND tgname LIKE 'pgtier\_split%' LOOP
      EXECUTE format('DROP TRIGGER %I ON %s', g.tgname, part::regclass);
    END LOOP;
  END IF;
  EXECUTE format('DROP FUNCTION IF EXISTS pgtier.%I()', 'shadow_catch_' || part);
  DELETE FROM pgtier.shadow_splits WHERE relation = part RETURNING * INTO s;
  IF EXISTS (SELECT FROM pg_class WHERE oid = s.copy) THEN EXECUTE format('DROP TABLE %s', s.copy::regclass); END IF;
  IF EXISTS (SELECT FROM pg_class WHERE oid = s.late) THEN EXECUTE format('DROP TABLE %s', s.late::regclass); END IF;
  PERFORM pgtier.shadow_own_ddl(false);
END
$fn$;

-- First step: the empty copy, and the trigger. Writers into the partition, if there are any, are held off for some
-- milliseconds; what was committed before is to be copied, what comes later is in `late` too. Begins anew where the
-- partition was changed since. Gives the partition; NULL: there is nothing to split.
CREATE OR REPLACE FUNCTION pgtier.shadow_split_begin(wanted text, by_column text, every interval) RETURNS oid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  s pgtier.shadow_splits;
  part oid := pgtier.shadow_split_candidate(wanted, by_column);
  parent oid;
  ends timestamptz;
  first timestamptz;
  copy text;
  made text;
  late text;
BEGIN
  IF part IS NULL THEN RETURN NULL; END IF;
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  parent := pgtier.shadow_oid(names.schema_name, names.table_name);
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = part FOR UPDATE;
  IF FOUND THEN
    IF NOT s.dirty AND s.fingerprint = pgtier.shadow_fingerprint(part) AND pgtier.shadow_copy_is_ours(s.copy) THEN
      RETURN part;
    END IF;
    PERFORM pgtier.shadow_split_forget(part);
  END IF;
  PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  SELECT p.upper INTO ends FROM pgtier.shadow_partitions(parent) AS p WHERE p.relation = part;
  EXECUTE format('SELECT min(%I) FROM %s', by_column, part::regclass) INTO first;
  -- At most 520 of them (ten years of weeks); what is older shares the first one.
  first := greatest(pgtier.shadow_period(coalesce(first, ends), every) + every, pgtier.shadow_period(ends, every) - 520 * every);
  copy := format('%I.%I', names.schema_name, pgtier.shadow_partition_name(names.schema_name, names.table_name, '_past'));
  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY) PARTITION BY RANGE (%I)', copy, parent::regclass, by_column);
  EXECUTE format('ALTER TABLE %s ADD CONSTRAINT pgtier_split_bound CHECK (%I IS NOT NULL AND %I < %s)', copy, by_column, by_column,
                 pgtier.shadow_bound(ends));
  made := pgtier.shadow_make_part(copy::regclass, part, pgtier.shadow_partition_name(names.schema_name, names.table_name,
            '_until' || substr(pgtier.shadow_part_suffix(least(first, ends), every), 3)));
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (MINVALUE) TO (%s)', copy, made, pgtier.shadow_bound(least(first, ends)));
  WHILE first < ends LOOP
    made := pgtier.shadow_make_part(copy::regclass, part, pgtier.shadow_partition_name(names.schema_name, names.table_name,
                                    pgtier.shadow_part_suffix(first, every)));
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', copy, made, pgtier.shadow_bound(first),
                   pgtier.shadow_bound(least(first + every, ends)));
    first := first + every;
  END LOOP;
  late := 'late_' || part;
  EXECUTE format('DROP TABLE IF EXISTS pgtier.%I', late);
  EXECUTE format('CREATE TABLE pgtier.%I (LIKE %s)', late, part::regclass);
  EXECUTE format('GRANT INSERT ON pgtier.%I TO pgtier_shadow', late);
  PERFORM pgtier.shadow_lock(ARRAY[part], 'SHARE ROW EXCLUSIVE');
  EXECUTE format('CREATE TRIGGER pgtier_split AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION '
                 'pgtier.shadow_split_catch(%L)', part::regclass, late);
  EXECUTE format('CREATE TRIGGER pgtier_split_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION '
                 'pgtier.shadow_split_catch(%L)', part::regclass, late);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER pgtier_split, ENABLE ALWAYS TRIGGER pgtier_split_truncate', part::regclass);
  PERFORM pgtier.shadow_refuse_code(copy::regclass);
  INSERT INTO pgtier.shadow_splits (relation, parent, copy, late, blocks, fingerprint)
    VALUES (part, parent, copy::regclass, format('pgtier.%I', late)::regclass,
            pg_relation_size(part) / current_setting('block_size')::bigint, pgtier.shadow_fingerprint(part));
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN part;
END
$fn$;

-- Second step, again and again: the next blocks. `finished` of `total` blocks; equal when all are copied. NULL: it has to
-- be begun anew.
CREATE OR REPLACE FUNCTION pgtier.shadow_split_copy(part oid, want_blocks bigint, OUT finished bigint, OUT total bigint,
                                                    OUT rows_copied bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_splits;
  columns text;
  moved bigint;
BEGIN
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = part FOR UPDATE;
  IF NOT FOUND OR s.dirty THEN RETURN; END IF;
  total := s.blocks;
  finished := least(s.next_block + want_blocks, s.blocks);
  SELECT string_agg(format('p.%I', attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = part AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
  PERFORM pgtier.shadow_refuse_code(s.copy);
  -- One snapshot: a late row that it shows in the partition it shows in `late` as well.
  EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %3$s FROM %4$s AS p WHERE p.ctid >= %5$L AND p.ctid < %6$L '
                 'AND NOT EXISTS (SELECT FROM %7$s AS l WHERE l."position" = p."position" AND l.epoch = p.epoch)',
                 s.copy::regclass, replace(columns, 'p.', ''), columns, part::regclass, format('(%s,0)', s.next_block)::tid,
                 format('(%s,0)', finished)::tid, s.late::regclass);
  GET DIAGNOSTICS moved = ROW_COUNT;
  UPDATE pgtier.shadow_splits SET next_block = finished, copied = copied + moved WHERE relation = part;
  rows_copied := s.copied + moved;
END
$fn$;

-- Third step: copy and late rows against the partition, a count and a sum of hashes a period, under one snapshot. What
-- differs, in words; empty: nothing does.
CREATE OR REPLACE FUNCTION pgtier.shadow_split_verify(part oid, by_column text, every interval) RETURNS text
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_splits;
  columns text;
  sums text;
  differs text;
BEGIN
  -- Not locked: who changes a row waits for this one's end only where it is written.
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = part;
  IF NOT FOUND OR s.dirty OR s.next_block < s.blocks THEN RETURN 'the copy is not whole'; END IF;
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) INTO columns FROM pg_attribute
    WHERE attrelid = part AND attnum > 0 AND NOT attisdropped;
  sums := format('SELECT date_bin(%2$L, %1$I, %4$L) AS period, count(*) AS n, sum(hashtextextended(ROW(%3$s)::text, 0)::numeric) AS h FROM ',
                 by_column, every, columns, '2001-01-01 00:00:00+00');
  EXECUTE format('SELECT string_agg(format(''%%s: %%s rows, not %%s'', period, coalesce(b.n, 0), coalesce(a.n, 0)), ''; '') '
                 'FROM (%s %s GROUP BY 1) AS a FULL JOIN (%s (TABLE %s UNION ALL TABLE %s) AS u GROUP BY 1) AS b USING (period) '
                 'WHERE (a.n, a.h) IS DISTINCT FROM (b.n, b.h)',
                 sums, part::regclass, sums, s.copy::regclass, s.late::regclass) INTO differs;
  IF differs IS NULL THEN UPDATE pgtier.shadow_splits SET verified = true WHERE relation = part; END IF;
  RETURN coalesce(differs, '');
END
$fn$;

-- Last step, in one short transaction: late rows, and the copy in the partition's place, which goes. True: done.
CREATE OR REPLACE FUNCTION pgtier.shadow_split_swap(part oid) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_splits;
  ends timestamptz;
  owner text;
  given regclass;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true);
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = part;
  IF NOT FOUND OR s.dirty OR NOT s.verified THEN RETURN false; END IF;
  PERFORM pgtier.shadow_lock(ARRAY[s.parent, part], 'ACCESS EXCLUSIVE');
  SELECT * INTO s FROM pgtier.shadow_splits WHERE relation = part FOR UPDATE;
  IF s.dirty OR s.fingerprint <> pgtier.shadow_fingerprint(part) OR NOT pgtier.shadow_copy_is_ours(s.copy) THEN RETURN false; END IF;
  SELECT p.upper INTO STRICT ends FROM pgtier.shadow_partitions(s.parent) AS p WHERE p.relation = part;
  PERFORM pgtier.shadow_refuse_code(s.copy);
  EXECUTE format('INSERT INTO %s TABLE %s', s.copy::regclass, s.late::regclass);
  -- Not before: see shadow_copy_is_ours.
  SELECT relowner::regrole::text INTO owner FROM pg_class WHERE oid = part;
  FOR given IN SELECT t.relid FROM pg_partition_tree(s.copy::regclass) AS t LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO %s', given, owner);
  END LOOP;
  EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', s.parent::regclass, part::regclass);
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (MINVALUE) TO (%s)', s.parent::regclass, s.copy::regclass,
                 pgtier.shadow_bound(ends));
  EXECUTE format('DROP TABLE %s', part::regclass);
  EXECUTE format('DROP TABLE %s', s.late::regclass);
  DELETE FROM pgtier.shadow_splits WHERE relation = part;
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN true;
END
$fn$;
