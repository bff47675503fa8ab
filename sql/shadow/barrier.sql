-- Tier cdc: what it needs on the tables, and the barrier by which every exact change of tier is made.

-- What the consumer has to know beyond its position.
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'pgtier.shadow_checkpoint'::regclass AND attname = 'secret') THEN
    ALTER TABLE pgtier.shadow_checkpoint
      -- Anybody may emit messages into the log: a barrier's carries this.
      ADD COLUMN secret text NOT NULL DEFAULT gen_random_uuid()::text,
      -- The epoch of the newest barrier out of cdc: what ended_epoch has to come to.
      ADD COLUMN wanted_end bigint NOT NULL DEFAULT 0;
  END IF;
END
$do$;

-- Which table a relation is, or was, a part of: a consumer that is behind reads changes of parts that are gone.
CREATE TABLE IF NOT EXISTS pgtier.shadow_parts (
  relation oid     PRIMARY KEY,
  table_id integer NOT NULL
);
GRANT SELECT ON pgtier.shadow_parts TO pgtier_shadow_cdc;

-- The actor in cdc: a statement says it into the log when it differs from the one said last in its transaction. The
-- flag is the transaction's, and goes back with a savepoint, as the message does.
CREATE OR REPLACE FUNCTION pgtier.shadow_actor_body(wanted text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT format($body$
DECLARE
  actor text := COALESCE(pg_catalog.current_setting(%L, true), '');
BEGIN
  IF actor OPERATOR(pg_catalog.<>) COALESCE(pg_catalog.current_setting('pgtier.actor_said', true), '') THEN
    PERFORM pg_catalog.set_config('pgtier.actor_said', actor, true);
    PERFORM pg_catalog.pg_logical_emit_message(true, 'pgtier.actor', actor);
    -- Decoding puts a message at the end of its record, a change at the beginning of its own: where they meet, and a
    -- savepoint lies between, either may come first. This one keeps them apart.
    PERFORM pg_catalog.pg_logical_emit_message(true, 'pgtier', '');
  END IF;
  RETURN NULL;
END
$body$, actor_setting) FROM pgtier.shadow_state WHERE policy = wanted
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_set_actor_function(wanted text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_state;
  name text;
BEGIN
  SELECT * INTO STRICT s FROM pgtier.shadow_state WHERE policy = wanted;
  name := 'shadow_actor_' || s.number;
  IF s.actor_setting = '' OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'pgtier'::regnamespace AND proname = name
                                     AND prosrc = pgtier.shadow_actor_body(wanted)) THEN RETURN; END IF;
  -- Without a SET clause, which would cost more than the function: every name in it is qualified.
  EXECUTE format('CREATE OR REPLACE FUNCTION pgtier.%I() RETURNS trigger LANGUAGE plpgsql AS %L', name,
                 pgtier.shadow_actor_body(wanted));
  EXECUTE format('REVOKE ALL ON FUNCTION pgtier.%I() FROM PUBLIC', name);
END
$fn$;

-- Actor triggers on the source and all its parts, for a statement fires those of the table that it names; enabled in cdc
-- only. The caller holds SHARE ROW EXCLUSIVE.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_actor_triggers(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_state;
  r oid;
  wants "char";
BEGIN
  SELECT k.* INTO STRICT s FROM pgtier.shadow_state AS k JOIN pgtier.shadow_tables AS t USING (policy) WHERE t.id = wanted;
  wants := CASE WHEN s.tier = 'cdc' AND s.actor_setting <> '' THEN 'A' ELSE 'D' END;
  FOR r IN SELECT unnest(pgtier.shadow_relations(t.source)) FROM pgtier.shadow_tables AS t WHERE t.id = wanted LOOP
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r AND tgname = '00_pgtier_shadow_actor') THEN
      CONTINUE WHEN s.actor_setting = '';
      EXECUTE format('CREATE TRIGGER "00_pgtier_shadow_actor" BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
                     'FOR EACH STATEMENT EXECUTE FUNCTION pgtier.%I()', r::regclass, 'shadow_actor_' || s.number);
    END IF;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r AND tgname = '00_pgtier_shadow_actor' AND tgenabled <> wants) THEN
      -- ONLY: a part has a trigger of its own of that name.
      EXECUTE format('ALTER TABLE ONLY %s %s TRIGGER "00_pgtier_shadow_actor"', r::regclass,
                     CASE wants WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'DISABLE' END);
    END IF;
  END LOOP;
END
$fn$;

-- Whether actor triggers are missing, or at work where no actor is recorded any more.
CREATE OR REPLACE FUNCTION pgtier.shadow_actor_lacks(wanted integer) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT EXISTS (SELECT FROM pgtier.shadow_tables AS t JOIN pgtier.shadow_state AS s USING (policy),
                        unnest(pgtier.shadow_relations(t.source)) AS r
                 WHERE t.id = wanted
                   AND CASE WHEN s.actor_setting = ''
                            THEN EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r AND tgname = '00_pgtier_shadow_actor'
                                         AND tgenabled <> 'D')
                            ELSE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r AND tgname = '00_pgtier_shadow_actor'
                                             AND (s.tier <> 'cdc' OR tgenabled = 'A')) END)
$fn$;

-- Remembers what the replica identity was, and makes it FULL: only so does the log hold the row before a change, with the
-- large values that the change left alone. The caller has locked the relation, or owns it for DDL.
CREATE OR REPLACE FUNCTION pgtier.shadow_set_identity(wanted text, relation oid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  was "char";
BEGIN
  SELECT relreplident INTO STRICT was FROM pg_class WHERE oid = relation;
  IF was = 'f' THEN RETURN; END IF;
  INSERT INTO pgtier.shadow_identities (relation, policy, identity, index)
    VALUES (relation, wanted, was, (SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
                                    WHERE i.indrelid = shadow_set_identity.relation AND i.indisreplident))
    ON CONFLICT ON CONSTRAINT shadow_identities_pkey DO UPDATE SET policy = excluded.policy, identity = excluded.identity,
                                                                   index = excluded.index;
  EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY FULL', relation::regclass);
END
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_unset_identity(relation oid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  was pgtier.shadow_identities;
BEGIN
  DELETE FROM pgtier.shadow_identities AS i WHERE i.relation = shadow_unset_identity.relation RETURNING * INTO was;
  IF NOT FOUND OR NOT EXISTS (SELECT FROM pg_class WHERE oid = relation AND relreplident = 'f') THEN RETURN; END IF;
  IF was.identity = 'i' AND NOT EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
                                        WHERE i.indrelid = relation AND c.relname = was.index) THEN
    was.identity := 'd';
  END IF;
  EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY %s', relation::regclass,
                 CASE was.identity WHEN 'n' THEN 'NOTHING' WHEN 'i' THEN format('USING INDEX %I', was.index)
                                   ELSE 'DEFAULT' END);
END
$fn$;

-- Brings the publication into line with the parts of a table, and writes down what they belong to.
CREATE OR REPLACE FUNCTION pgtier.shadow_publish(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  publication text;
  r oid;
BEGIN
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  SELECT pgtier.shadow_publication(slot) INTO STRICT publication FROM pgtier.shadow_state WHERE policy = t.policy;
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = publication) THEN RETURN; END IF;
  INSERT INTO pgtier.shadow_parts (relation, table_id) SELECT leaf, wanted FROM pgtier.shadow_leaf_oids(t.source) AS leaf
    WHERE NOT EXISTS (SELECT FROM pgtier.shadow_parts AS p WHERE p.relation = leaf AND p.table_id = wanted)
    ON CONFLICT (relation) DO UPDATE SET table_id = excluded.table_id;
  FOR r IN SELECT leaf FROM pgtier.shadow_leaf_oids(t.source) AS leaf
           WHERE leaf NOT IN (SELECT p.prrelid FROM pg_publication_rel AS p JOIN pg_publication AS b ON b.oid = p.prpubid
                              WHERE b.pubname = publication) LOOP
    EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s', publication, r::regclass);
  END LOOP;
  -- Parts that were detached.
  FOR r IN SELECT p.prrelid FROM pg_publication_rel AS p JOIN pg_publication AS b ON b.oid = p.prpubid
           JOIN pgtier.shadow_parts AS s ON s.relation = p.prrelid
           WHERE b.pubname = publication AND s.table_id = wanted
             AND p.prrelid NOT IN (SELECT pgtier.shadow_leaf_oids(t.source)) LOOP
    EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', publication, r::regclass);
  END LOOP;
END
$fn$;

-- After a change of the source's schema, from when cdc is prepared: new parts get what the others have.
CREATE OR REPLACE FUNCTION pgtier.shadow_follow_cdc(wanted integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  t pgtier.shadow_tables;
  r oid;
BEGIN
  SELECT * INTO STRICT t FROM pgtier.shadow_tables WHERE id = wanted;
  IF NOT EXISTS (SELECT FROM pg_publication AS b JOIN pgtier.shadow_state AS s ON b.pubname = pgtier.shadow_publication(s.slot)
                 WHERE s.policy = t.policy AND s.slot <> '') THEN RETURN; END IF;
  PERFORM pgtier.shadow_set_actor_function(t.policy);
  FOR r IN SELECT pgtier.shadow_leaf_oids(t.source) LOOP
    PERFORM pgtier.shadow_set_identity(t.policy, r);
  END LOOP;
  PERFORM pgtier.shadow_publish(wanted);
  PERFORM pgtier.shadow_set_actor_triggers(wanted);
  FOR r IN SELECT g.tgrelid FROM pg_trigger AS g JOIN pgtier.shadow_parts AS s ON s.relation = g.tgrelid
           WHERE g.tgname = '00_pgtier_shadow_actor' AND s.table_id = wanted
             AND NOT g.tgrelid = ANY (pgtier.shadow_relations(t.source)) LOOP
    EXECUTE format('DROP TRIGGER "00_pgtier_shadow_actor" ON %s', r::regclass);
    PERFORM pgtier.shadow_unset_identity(r);
  END LOOP;
END
$fn$;

-- What a relation still needs before the barrier into cdc, as a sentence; NULL: nothing.
CREATE OR REPLACE FUNCTION pgtier.shadow_cdc_lacks(wanted text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT lack FROM (
    SELECT 1 AS n, format('the policy %s has no checkpoint of slot %s', wanted, s.slot) AS lack
      FROM pgtier.shadow_state AS s
      WHERE s.policy = wanted
        AND NOT EXISTS (SELECT FROM pgtier.shadow_checkpoint AS c
                        WHERE c.policy = wanted AND c.slot = s.slot AND s.slot <> '' AND c.timeline >= 0)
    UNION ALL
    SELECT 2, format('there is no slot %s that could be read', s.slot) FROM pgtier.shadow_state AS s
      WHERE s.policy = wanted
        AND NOT EXISTS (SELECT FROM pg_replication_slots AS r
                        WHERE r.slot_name = s.slot AND r.database = current_database() AND r.wal_status <> 'lost')
    UNION ALL
    SELECT 3, pgtier.shadow_table_lacks_cdc(t.id) FROM pgtier.shadow_tables AS t WHERE t.policy = wanted AND t.installed) AS lacks
  WHERE lack IS NOT NULL
  ORDER BY n LIMIT 1
$fn$;

-- The barrier: holds all writers of all tables off, changes what records them, gives the next epoch and says so into the
-- log, in one transaction. Every transaction that wrote to one of the tables has ended before it and is recorded by
-- the former tier; every one that writes later is recorded by the new one. Gives the epoch. 55P03: writers did not let it
-- in; 55000: cdc is not prepared.
CREATE OR REPLACE FUNCTION pgtier.shadow_barrier(wanted text, target text) RETURNS bigint
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_state;
  t record;
  relations oid[];
  lacks text;
  wanted_secret text;
BEGIN
  PERFORM pgtier.shadow_own_ddl(true), set_config('lock_timeout', '600ms', true);
  SELECT * INTO STRICT s FROM pgtier.shadow_state WHERE policy = wanted FOR UPDATE;
  IF s.tier = target THEN RETURN s.epoch; END IF;
  IF target = 'cdc' THEN
    lacks := pgtier.shadow_cdc_lacks(wanted);
    IF lacks IS NOT NULL THEN RAISE EXCEPTION '%', lacks USING ERRCODE = '55000'; END IF;
    PERFORM pgtier.shadow_set_actor_function(wanted);
  END IF;
  relations := pgtier.shadow_policy_relations(wanted);
  PERFORM pgtier.shadow_lock(relations, 'SHARE ROW EXCLUSIVE');
  -- What came while the locks were waited for is neither locked nor looked at.
  IF relations IS DISTINCT FROM pgtier.shadow_policy_relations(wanted) THEN
    RAISE EXCEPTION 'the tables of % have got or lost partitions', wanted USING ERRCODE = '55P03';
  END IF;
  IF target = 'cdc' THEN
    lacks := pgtier.shadow_cdc_lacks(wanted);
    IF lacks IS NOT NULL THEN RAISE EXCEPTION '%', lacks USING ERRCODE = '55000'; END IF;
  END IF;
  UPDATE pgtier.shadow_state
    SET tier = target, epoch = epoch + 1, changed_at = now(), draining = draining OR tier = 'notify',
        -- Nobody runs the body of notify any more: its writers have ended.
        waits_taken = waits_taken OR tier = 'notify',
        payload = false
    WHERE policy = wanted RETURNING * INTO s;
  FOR t IN SELECT id FROM pgtier.shadow_tables WHERE policy = wanted AND installed ORDER BY id LOOP
    PERFORM pgtier.shadow_set_triggers(t.id);
    PERFORM pgtier.shadow_set_actor_triggers(t.id);
  END LOOP;
  PERFORM pgtier.shadow_set_functions(wanted);
  IF target <> 'cdc' THEN
    UPDATE pgtier.shadow_checkpoint SET wanted_end = s.epoch WHERE policy = wanted;
  END IF;
  SELECT secret INTO wanted_secret FROM pgtier.shadow_checkpoint WHERE policy = wanted;
  PERFORM pg_logical_emit_message(true, 'pgtier.cutover', json_build_object(
    'policy', wanted, 'epoch', s.epoch, 'to', target, 'secret', wanted_secret,
    'tables', (SELECT json_agg(format('%I.%I', source_schema, source_name)) FROM pgtier.shadow_tables
               WHERE policy = wanted AND installed))::text);
  RETURN s.epoch;
END
$fn$;

-- Takes from a relation what cdc put on it. The caller is in a transaction of its own.
CREATE OR REPLACE FUNCTION pgtier.shadow_unprepare(relation oid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
  PERFORM pgtier.shadow_own_ddl(true);
  PERFORM pgtier.shadow_lock(ARRAY[relation], 'ACCESS EXCLUSIVE');
  PERFORM pgtier.shadow_unset_identity(relation);
  EXECUTE format('DROP TRIGGER IF EXISTS "00_pgtier_shadow_actor" ON %s', relation::regclass);
END
$fn$;
