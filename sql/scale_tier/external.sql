-- What pgtier keeps in the database of an external Postgres. Run as the role of adminSecret, which is no superuser: it
-- needs CREATE on the database, or a schema pgtier that it owns. Run again after each change of this file; every
-- statement may find its work done.
DO $$
BEGIN
  -- CREATE SCHEMA IF NOT EXISTS asks for the right to create it even where it exists.
  IF to_regnamespace('pgtier') IS NULL THEN
    CREATE SCHEMA pgtier;
  END IF;
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
