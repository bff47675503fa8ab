-- A plain table becomes the first partition of one that takes its name, while rows arrive. The order: a shell with
-- partitions ahead is made beside it; a CHECK says of each row that it is older than the first of them, and is validated
-- while writers go on; then, in one transaction of some milliseconds, names are exchanged and the table is attached, which
-- scans nothing, for the CHECK proves what would be looked for. See docs/decisions/0046.

-- What the shell was made by: a table that has changed since needs another one.
CREATE OR REPLACE FUNCTION pgtier.shadow_fingerprint(wanted oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT md5(concat_ws(E'\n',
    (SELECT string_agg(concat_ws(' ', a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attcollation, a.attgenerated,
                                 a.attidentity, pg_get_expr(d.adbin, d.adrelid)), E'\n' ORDER BY a.attnum)
     FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = wanted AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT string_agg(pg_get_indexdef(indexrelid) || indisvalid, E'\n' ORDER BY indexrelid) FROM pg_index WHERE indrelid = wanted),
    (SELECT string_agg(conname || pg_get_constraintdef(oid), E'\n' ORDER BY conname) FROM pg_constraint
     WHERE conrelid = wanted AND conname <> 'pgtier_partition_bound'),
    (SELECT relowner::text FROM pg_class WHERE oid = wanted)))
$fn$;

-- Makes an empty table like `model` that can become its partition, with the storage parameters and the replica identity
-- of `like_part`. Gives its name as SQL writes it.
CREATE OR REPLACE FUNCTION pgtier.shadow_make_part(model oid, like_part oid, part_name text) RETURNS text
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  m pg_class;
  p pg_class;
  made text;
BEGIN
  SELECT * INTO STRICT m FROM pg_class WHERE oid = model;
  SELECT * INTO STRICT p FROM pg_class WHERE oid = like_part;
  made := format('%I.%I', (SELECT nspname FROM pg_namespace WHERE oid = m.relnamespace), part_name);
  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY)%s', made, model::regclass,
                  coalesce(' WITH (' || array_to_string(p.reloptions, ', ') || ')', ''));
  EXECUTE format('ALTER TABLE %s OWNER TO %s', made, m.relowner::regrole);
  IF p.relreplident IN ('f', 'n') THEN
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY %s', made, CASE p.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END);
  END IF;
  RETURN made;
END
$fn$;

-- A partition's suffix: the day that it begins on, and the time of day where periods are not days.
CREATE OR REPLACE FUNCTION pgtier.shadow_part_suffix(lower_bound timestamptz, every interval) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT to_char(lower_bound AT TIME ZONE 'UTC', CASE WHEN extract(epoch FROM every)::bigint % 86400 = 0 AND
    extract(epoch FROM lower_bound)::bigint % 86400 = 0 THEN '"_p"YYYYMMDD' ELSE '"_p"YYYYMMDD"t"HH24MI' END)
$fn$;

-- Adds empty partitions until rows of `ahead` whole periods after this one fit. Each is made beside the table and attached,
-- which holds no writer up. Gives the names of the new ones. `base` is what their names begin with.
CREATE OR REPLACE FUNCTION pgtier.shadow_add_parts(parent oid, like_part oid, base text, first timestamptz, every interval,
                                                   ahead integer) RETURNS text[]
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  wants timestamptz := pgtier.shadow_period(clock_timestamp(), every) + (ahead + 1) * every;
  in_schema text := (SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = parent);
  next timestamptz;
  made text;
  names text[] := '{}';
BEGIN
  -- Bounded: whoever sets 10 minutes and a year gets them over several passes.
  WHILE first < wants AND cardinality(names) < 64 LOOP
    next := pgtier.shadow_period(first, every) + every;
    made := pgtier.shadow_make_part(parent, like_part, pgtier.shadow_partition_name(in_schema, base,
                                    pgtier.shadow_part_suffix(first, every)));
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', parent::regclass, made,
                   pgtier.shadow_bound(first), pgtier.shadow_bound(next));
    names := names || made;
    first := next;
  END LOOP;
  RETURN names;
END
$fn$;

-- First step: the shell and its partitions, beside the table. A shell of a table that was changed since, or whose
-- partitions begin too soon, is made anew. Gives the time up to which rows stay in the table: at least a day, and a
-- period, from now.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_shell(wanted text, by_column text, wanted_every interval, ahead integer)
  RETURNS timestamptz
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  h oid;
  p pgtier.shadow_partitioning;
  shell text;
  until timestamptz;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', h::regclass);
  SELECT * INTO p FROM pgtier.shadow_partitioning WHERE relation = h FOR UPDATE;
  IF FOUND THEN
    IF p.fingerprint = pgtier.shadow_fingerprint(h) AND p.upper > clock_timestamp() + interval '12 hours' AND p.every = wanted_every
       AND EXISTS (SELECT FROM pg_class WHERE oid = p.shell) THEN
      RETURN p.upper;
    END IF;
    PERFORM pgtier.shadow_partition_forget(wanted);
    PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  END IF;
  -- The smallest period's start that is far enough.
  until := pgtier.shadow_period(clock_timestamp() + greatest(wanted_every, interval '1 day'), wanted_every) + wanted_every;
  shell := format('%I.%I', names.schema_name,
                  pgtier.shadow_partition_name(names.schema_name, names.table_name, '_partitioned'));
  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY) PARTITION BY RANGE (%I)', shell, h::regclass, by_column);
  EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS pgtier_partition_bound', shell);
  EXECUTE format('ALTER TABLE %s OWNER TO %s', shell, (SELECT relowner::regrole FROM pg_class WHERE oid = h));
  PERFORM pgtier.shadow_add_parts(shell::regclass, h, names.table_name, until, wanted_every, greatest(ahead, 1));
  INSERT INTO pgtier.shadow_partitioning (relation, shell, upper, every, fingerprint)
    VALUES (h, shell::regclass, until, wanted_every, pgtier.shadow_fingerprint(h));
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN until;
END
$fn$;

-- Second step: the bound, for rows that come from now on. VALIDATE CONSTRAINT, which is the caller's, looks at the others.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_mark(wanted text, by_column text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  h oid;
  p pgtier.shadow_partitioning;
BEGIN
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  SELECT * INTO STRICT p FROM pgtier.shadow_partitioning WHERE relation = h FOR UPDATE;
  IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = h AND conname = 'pgtier_partition_bound') THEN RETURN; END IF;
  PERFORM pgtier.shadow_own_ddl(true);
  PERFORM pgtier.shadow_lock(ARRAY[h], 'ACCESS EXCLUSIVE');
  EXECUTE format('ALTER TABLE %s ADD CONSTRAINT pgtier_partition_bound CHECK (%I IS NOT NULL AND %I < %s) NOT VALID',
                 h::regclass, by_column, by_column, pgtier.shadow_bound(p.upper));
  PERFORM pgtier.shadow_own_ddl(false);
END
$fn$;

-- Takes back what the steps before the last have done: bound and shell, or the copy that was to become a hypertable. Of one
-- that has become it, what the table was goes.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_forget(wanted text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  h oid;
  p pgtier.shadow_partitioning;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = h AND conname = 'pgtier_partition_bound') THEN
    PERFORM pgtier.shadow_lock(ARRAY[h], 'ACCESS EXCLUSIVE');
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT pgtier_partition_bound', h::regclass);
  END IF;
  DELETE FROM pgtier.shadow_partitioning WHERE relation = h RETURNING * INTO p;
  IF EXISTS (SELECT FROM pgtier.shadow_splits WHERE relation = h) THEN
    PERFORM pgtier.shadow_split_forget(h);
    PERFORM pgtier.shadow_own_ddl(true);
  END IF;
  IF EXISTS (SELECT FROM pg_class WHERE oid = p.shell) THEN EXECUTE format('DROP TABLE %s', p.shell::regclass); END IF;
  PERFORM pgtier.shadow_hypertable_retire(wanted);
  PERFORM pgtier.shadow_own_ddl(false);
END
$fn$;

-- Statements that give the shell what the table has and LIKE does not copy, and those that take it from the table first.
-- Read before names are exchanged: each names the table, which the shell is by the time they run.
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_carry(h oid, OUT before_it text[], OUT after_it text[])
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  place text := h::regclass::text;
BEGIN
  SELECT coalesce(array_agg(format('DROP TRIGGER %I ON %s', g.tgname, place) ORDER BY g.oid), '{}') INTO before_it
    FROM pg_trigger AS g WHERE g.tgrelid = h AND NOT g.tgisinternal;
  SELECT coalesce(array_agg(s.sql ORDER BY s.n, s.m), '{}') INTO after_it FROM (
    SELECT 1 AS n, 0::bigint AS m, format('GRANT %s ON %s TO %s%s', a.privilege_type, place,
                                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
                                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS sql
      FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE c.oid = h
    UNION ALL
    SELECT 1, 1, format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, t.attname, place,
                        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
                        CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
      FROM pg_attribute AS t, aclexplode(t.attacl) AS a WHERE t.attrelid = h AND NOT t.attisdropped
    UNION ALL
    SELECT 2, 0, format('COMMENT ON TABLE %s IS %L', place, obj_description(h, 'pg_class')) WHERE obj_description(h, 'pg_class') IS NOT NULL
    UNION ALL
    SELECT 3, 0, format('ALTER TABLE %s %s ROW LEVEL SECURITY', place, x.what) FROM pg_class AS c,
           LATERAL (VALUES ('ENABLE', c.relrowsecurity), ('FORCE', c.relforcerowsecurity)) AS x (what, wanted)
      WHERE c.oid = h AND x.wanted
    UNION ALL
    SELECT 4, 0, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.policyname, place, p.permissive, p.cmd,
                     (SELECT string_agg(CASE r WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(r) END, ', ') FROM unnest(p.roles) AS r),
                     coalesce(' USING (' || p.qual || ')', ''), coalesce(' WITH CHECK (' || p.with_check || ')', ''))
      FROM pg_policies AS p JOIN pg_class AS c ON c.oid = h JOIN pg_namespace AS s ON s.oid = c.relnamespace
      WHERE p.schemaname = s.nspname AND p.tablename = c.relname
    UNION ALL
    SELECT 5, g.oid::bigint, pg_get_triggerdef(g.oid) FROM pg_trigger AS g WHERE g.tgrelid = h AND NOT g.tgisinternal
    UNION ALL
    SELECT 6, g.oid::bigint, format('ALTER TABLE %s %s TRIGGER %I', place,
                     CASE g.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, g.tgname)
      FROM pg_trigger AS g WHERE g.tgrelid = h AND NOT g.tgisinternal AND g.tgenabled <> 'O'
    UNION ALL
    SELECT 7, 0, format('ALTER SEQUENCE %s OWNED BY %s.%I', d.objid::regclass, place, a.attname)
      FROM pg_depend AS d JOIN pg_class AS q ON q.oid = d.objid AND q.relkind = 'S'
      JOIN pg_attribute AS a ON a.attrelid = h AND a.attnum = d.refobjsubid
      WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = h AND d.deptype = 'a'
    UNION ALL
    SELECT 8, 0, format('ALTER PUBLICATION %I ADD TABLE %s', b.pubname, place)
      FROM pg_publication_rel AS p JOIN pg_publication AS b ON b.oid = p.prpubid WHERE p.prrelid = h
    UNION ALL
    SELECT 9, v.oid::bigint, format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::regclass,
                                    coalesce(' WITH (' || array_to_string(v.reloptions, ', ') || ')', ''), pg_get_viewdef(v.oid))
      FROM pg_class AS v WHERE v.relkind = 'v' AND v.oid IN (
        SELECT r.ev_class FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = h)) AS s;
END
$fn$;

-- Last step, in one short transaction: the shell takes the table's name and the table becomes its first partition. Says
-- how: 'attached', 'is' (somebody was here before), 'again' (the table was changed, or time ran out: begin anew).
CREATE OR REPLACE FUNCTION pgtier.shadow_partition_attach(wanted text) RETURNS text
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  names record;
  h oid;
  p pgtier.shadow_partitioning;
  carry record;
  part_name text;
  part text;
  statement text;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true);
  SELECT * INTO names FROM pgtier.shadow_names(wanted);
  h := pgtier.shadow_oid(names.schema_name, names.table_name);
  IF (SELECT relkind FROM pg_class WHERE oid = h) = 'p' THEN RETURN 'is'; END IF;
  SELECT * INTO p FROM pgtier.shadow_partitioning WHERE relation = h FOR UPDATE;
  IF NOT FOUND THEN RETURN 'again'; END IF;
  part_name := pgtier.shadow_partition_name(names.schema_name, names.table_name,
                                            to_char(p.upper AT TIME ZONE 'UTC', '"_before_"YYYYMMDD'));
  part := format('%I.%I', names.schema_name, part_name);
  PERFORM pgtier.shadow_lock(ARRAY[h], 'ACCESS EXCLUSIVE');
  -- Nothing is found out by a scan from here on.
  IF p.fingerprint <> pgtier.shadow_fingerprint(h) OR p.upper < clock_timestamp() + interval '1 hour'
     OR NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = h AND conname = 'pgtier_partition_bound' AND convalidated)
     OR NOT EXISTS (SELECT FROM pg_class WHERE oid = p.shell) THEN
    RETURN 'again';
  END IF;
  SELECT * INTO carry FROM pgtier.shadow_partition_carry(h);
  FOREACH statement IN ARRAY carry.before_it LOOP EXECUTE statement; END LOOP;
  EXECUTE format('ALTER TABLE %s RENAME TO %I', h::regclass, part_name);
  EXECUTE format('ALTER TABLE %s RENAME TO %I', p.shell::regclass, names.table_name);
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (MINVALUE) TO (%s)', p.shell::regclass, part,
                 pgtier.shadow_bound(p.upper));
  EXECUTE format('ALTER TABLE %s DROP CONSTRAINT pgtier_partition_bound', part);
  FOREACH statement IN ARRAY carry.after_it LOOP EXECUTE statement; END LOOP;
  DELETE FROM pgtier.shadow_partitioning WHERE relation = h;
  PERFORM pgtier.shadow_own_ddl(false);
  RETURN 'attached';
END
$fn$;
