-- What pgtier keeps in the application's database. Run by the superuser, again after each change of this file;
-- every statement may find its work done.
CREATE SCHEMA IF NOT EXISTS pgtier;

-- The fence: a leader that was deposed without noticing finds another epoch here and stops.
CREATE TABLE IF NOT EXISTS pgtier.state (
  only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch      bigint      NOT NULL DEFAULT 0,
  tier       text        NOT NULL DEFAULT '',
  changed_at timestamptz NOT NULL DEFAULT now(),
  installed  text        NOT NULL DEFAULT ''
);
INSERT INTO pgtier.state DEFAULT VALUES ON CONFLICT DO NOTHING;

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
GRANT SELECT ON pgtier.state TO pgtier_monitor;
-- What of a configuration file the server refuses, only superusers may see otherwise (PostgreSQL, 53.8).
GRANT SELECT ON pg_file_settings TO pgtier_monitor;
GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO pgtier_monitor;
