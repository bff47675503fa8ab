-- What pgtier keeps in the application's database. Run by the superuser, again after each change of this file;
-- every statement may find its work done.
CREATE SCHEMA IF NOT EXISTS pgtier;

-- The database's owner may have made a schema of that name first, with tables and functions that are then theirs to change
-- and the superuser's to run.
DO $$
DECLARE
  foreign_object text;
BEGIN
  SELECT what || ' belongs to ' || pg_get_userbyid(owner) INTO foreign_object FROM (
    SELECT 'schema pgtier' AS what, nspowner AS owner FROM pg_namespace WHERE nspname = 'pgtier'
    UNION ALL
    SELECT 'pgtier.' || relname, relowner FROM pg_class
      WHERE relnamespace = 'pgtier'::regnamespace AND relname IN ('state', 'heartbeat', 'materialized_views')
    UNION ALL
    SELECT 'function pgtier.' || proname, proowner FROM pg_proc
      WHERE pronamespace = 'pgtier'::regnamespace
        AND proname IN ('standby_state', 'beat', 'pooler_lookup', 'set_materialized_views', 'refresh', 'refresh_due')
  ) AS found
    WHERE NOT (SELECT rolsuper FROM pg_roles WHERE oid = owner)
    LIMIT 1;
  IF foreign_object IS NOT NULL THEN
    RAISE EXCEPTION '%: pgtier keeps its state in that schema; drop or rename what stands there', foreign_object
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  -- Also where the owner has taken CONNECT from PUBLIC.
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO pgtier_pooler, pgtier_monitor', current_database());
END
$$;

-- The fence: a leader that was deposed without noticing finds another epoch here and stops.
CREATE TABLE IF NOT EXISTS pgtier.state (
  only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch      bigint      NOT NULL DEFAULT 0,
  tier       text        NOT NULL DEFAULT '',
  changed_at timestamptz NOT NULL DEFAULT now(),
  installed  text        NOT NULL DEFAULT ''
);
INSERT INTO pgtier.state DEFAULT VALUES ON CONFLICT DO NOTHING;

-- Replication lag (docs/decisions/0041). The primary's own pgtier-heartbeat writes it; its WAL is all that it costs.
CREATE TABLE IF NOT EXISTS pgtier.heartbeat (
  only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
  at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  replicas text        NOT NULL DEFAULT ''  -- who streams, by name
) WITH (fillfactor = 20, autovacuum_enabled = off);  -- HOT updates: the page cleans itself.
INSERT INTO pgtier.heartbeat DEFAULT VALUES ON CONFLICT DO NOTHING;

-- What a standby knows by itself of how far it is behind. Times in milliseconds.
CREATE OR REPLACE FUNCTION pgtier.standby_state(
    OUT streams boolean, OUT caught_up boolean,  -- as far as the primary has told
    OUT age bigint,           -- of the heartbeat, by this node's clock
    OUT clock_offset bigint,  -- this node's clock minus the primary's, and how long the last message was on its way
    OUT quiet bigint)         -- since the last message
  LANGUAGE sql VOLATILE SET search_path = pg_catalog
AS $$
  SELECT coalesce(receiver.status = 'streaming', false),
         coalesce(pg_last_wal_replay_lsn() >= receiver.latest_end_lsn, false),
         (extract(epoch FROM clock_timestamp() - heartbeat.at) * 1000)::bigint,
         (extract(epoch FROM receiver.last_msg_receipt_time - receiver.last_msg_send_time) * 1000)::bigint,
         (extract(epoch FROM clock_timestamp() - receiver.last_msg_receipt_time) * 1000)::bigint
  FROM pgtier.heartbeat LEFT JOIN pg_stat_wal_receiver AS receiver ON true
$$;

-- One beat on a primary, one sample on a standby, as images/postgres/pgtier-heartbeat reads it.
CREATE OR REPLACE FUNCTION pgtier.beat() RETURNS text
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog
AS $$
DECLARE
  standbys text;
  sample text;
BEGIN
  IF pg_is_in_recovery() THEN
    SELECT concat_ws(' ', 'standby', s.streams, s.caught_up, s.age, coalesce(s.clock_offset::text, '-'),
                     coalesce(s.quiet, 86400000),
                     coalesce(nullif(current_setting('pgtier.max_lag', true), ''), '1000'), h.replicas)
      INTO sample FROM pgtier.standby_state() AS s, pgtier.heartbeat AS h;
    RETURN sample;
  END IF;
  SELECT string_agg(application_name, ',' ORDER BY application_name) INTO standbys
    FROM pg_stat_replication WHERE state IN ('streaming', 'catchup');
  -- Nobody to tell: no write.
  IF standbys IS NOT NULL THEN
    UPDATE pgtier.heartbeat SET at = clock_timestamp(), replicas = standbys;
  END IF;
  RETURN 'primary';
END
$$;

-- Lets the pooler check the passwords of applications without being told them. Superusers and replication roles do not
-- come through a pooler.
CREATE OR REPLACE FUNCTION pgtier.pooler_lookup(wanted text)
  RETURNS TABLE (usename name, passwd text)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
  SELECT rolname, rolpassword
  FROM pg_authid
  WHERE rolname = wanted AND rolcanlogin AND NOT rolsuper AND NOT rolreplication
    AND (rolvaliduntil IS NULL OR rolvaliduntil > now())
$$;

REVOKE ALL ON SCHEMA pgtier FROM PUBLIC;
REVOKE ALL ON FUNCTION pgtier.pooler_lookup(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA pgtier TO pgtier_pooler, pgtier_monitor;
GRANT EXECUTE ON FUNCTION pgtier.pooler_lookup(text) TO pgtier_pooler;
REVOKE ALL ON FUNCTION pgtier.beat(), pgtier.standby_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgtier.standby_state() TO pgtier_monitor;
GRANT SELECT ON pgtier.state, pgtier.heartbeat TO pgtier_monitor;
-- What of a configuration file the server refuses, only superusers may see otherwise (PostgreSQL, 53.8).
GRANT SELECT ON pg_file_settings TO pgtier_monitor;
GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO pgtier_monitor;
