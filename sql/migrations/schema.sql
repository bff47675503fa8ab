-- What the steps of migrations have come to. The runner writes a row in the transaction of what it covers; the operator
-- reads it. Rows stay when the resource goes: they say what ran in this database.
CREATE SCHEMA IF NOT EXISTS pgtier;

CREATE TABLE IF NOT EXISTS pgtier.migrations (
  migration text NOT NULL,                -- <namespace>/<name> of the resource
  step text NOT NULL,
  position integer NOT NULL,
  hash text NOT NULL,                     -- of the step as it was written when it began
  state text NOT NULL,                    -- Running | Done | Failed
  checkpoint jsonb,
  done bigint NOT NULL DEFAULT 0,
  total bigint NOT NULL DEFAULT 0,        -- 0: nobody knows
  rate double precision NOT NULL DEFAULT 0, -- of `done`, a second
  message text NOT NULL DEFAULT '',
  started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  finished_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  PRIMARY KEY (migration, step)
);
