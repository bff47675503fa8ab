-- Between triggers and notify: only the functions' text changes, no table is locked. Each event writes one row, by the
-- one text or the other; both draw from the same sequence. See docs/decisions/0034.

-- The state of an installed policy, kept from others until the end of the transaction.
CREATE OR REPLACE FUNCTION pgtier.shadow_held_state(wanted text) RETURNS pgtier.shadow_state
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_state;
BEGIN
  -- An application's change of a source holds the row until its transaction ends.
  PERFORM set_config('lock_timeout', '600ms', true);
  SELECT * INTO s FROM pgtier.shadow_state WHERE policy = wanted AND installed FOR UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'the policy % is not installed', wanted USING ERRCODE = '55000'; END IF;
  RETURN s;
END
$fn$;

CREATE OR REPLACE FUNCTION pgtier.shadow_swap(wanted text, wanted_tier text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_state;
BEGIN
  s := pgtier.shadow_held_state(wanted);
  IF s.tier = wanted_tier THEN RETURN; END IF;
  IF 'cdc' IN (s.tier, wanted_tier) THEN
    RAISE EXCEPTION 'from % to % leads the barrier only', s.tier, wanted_tier USING ERRCODE = '55000';
  END IF;
  DELETE FROM pgtier.shadow_waits WHERE policy = wanted;
  -- What was sent in notifications is waited for in any tier.
  UPDATE pgtier.shadow_state SET tier = wanted_tier, draining = wanted_tier = 'triggers' OR payload_since IS NOT NULL,
                                 waits_taken = false, payload = false, payload_ending = false, changed_at = now()
    WHERE policy = wanted;
  PERFORM pgtier.shadow_set_functions(wanted);
END
$fn$;

-- After notify, or delivery Payload, was left: whether the outboxes are empty for good: every transaction that may still run the text of notify has ended, and what
-- it wrote has been moved. Such a transaction held a lock on a source when the swap had been committed: whoever takes
-- the lock later looks for new functions first. An xmin proves nothing, for a statement without a transaction's number
-- has none.
CREATE OR REPLACE FUNCTION pgtier.shadow_drained(wanted text) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
  s pgtier.shadow_state;
  r record;
BEGIN
  SELECT * INTO s FROM pgtier.shadow_state WHERE policy = wanted;
  IF NOT FOUND OR NOT s.draining THEN RETURN true; END IF;
  -- Held by another: asked again soon.
  SELECT * INTO s FROM pgtier.shadow_state WHERE policy = wanted AND draining FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN false; END IF;
  IF NOT s.waits_taken THEN
    INSERT INTO pgtier.shadow_waits (policy, vxid, prepared, server_up)
      SELECT DISTINCT wanted, l.virtualtransaction, l.pid IS NULL, pg_postmaster_start_time()
      FROM pg_locks AS l
      WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
        AND l.relation IN (SELECT unnest(pgtier.shadow_relations(source)) FROM pgtier.shadow_tables
                           WHERE policy = wanted AND installed)
      ON CONFLICT DO NOTHING;
    UPDATE pgtier.shadow_state SET waits_taken = true WHERE policy = wanted;
  END IF;
  DELETE FROM pgtier.shadow_waits AS w
    WHERE w.policy = wanted
      AND ((NOT w.prepared AND w.server_up <> pg_postmaster_start_time())
           OR NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.virtualtransaction = w.vxid));
  IF EXISTS (SELECT FROM pgtier.shadow_waits WHERE policy = wanted) THEN RETURN false; END IF;
  -- One that was prepared meanwhile has no virtual transaction any more, but rows that nobody sees yet.
  IF EXISTS (SELECT FROM pg_locks AS l WHERE l.pid IS NULL AND l.locktype = 'relation'
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND l.relation IN (SELECT p.outbox FROM pgtier.shadow_tables AS t, pgtier.shadow_places(t.id) AS p
                                  WHERE t.policy = wanted)) THEN
    RETURN false;
  END IF;
  IF NOT pgtier.shadow_payload_heard(wanted) THEN RETURN false; END IF;
  -- In notify only the delivery was left: the outboxes go on.
  FOR r IN SELECT id FROM pgtier.shadow_outboxes(wanted) WHERE s.tier <> 'notify' LOOP
    IF (SELECT depth FROM pgtier.shadow_queue(r.id, 1)) > 0 THEN RETURN false; END IF;
  END LOOP;
  UPDATE pgtier.shadow_state SET draining = false WHERE policy = wanted;
  RETURN true;
END
$fn$;
