-- State of the shadow tables, and the roles. Run by the role that acts (a superuser, or the database's owner with
-- CREATEROLE), again after each change of sql/shadow; every statement may find its work done.
CREATE SCHEMA IF NOT EXISTS pgtier;

DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgtier_shadow') THEN
    CREATE ROLE pgtier_shadow NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgtier_shadow_notify') THEN
    CREATE ROLE pgtier_shadow_notify LOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgtier_shadow_cdc') THEN
    BEGIN
      CREATE ROLE pgtier_shadow_cdc LOGIN REPLICATION;
    EXCEPTION WHEN insufficient_privilege THEN
      -- Only a role with REPLICATION may give it; the preflight of cdc says so.
      CREATE ROLE pgtier_shadow_cdc LOGIN;
    END;
  END IF;
  -- A role that is no superuser hands objects over to the owner only as its member.
  IF NOT pg_has_role(current_user, 'pgtier_shadow', 'USAGE') THEN
    EXECUTE 'GRANT pgtier_shadow TO CURRENT_USER'
            || CASE WHEN current_setting('server_version_num')::integer >= 160000
                    THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO pgtier_shadow_notify, pgtier_shadow_cdc', current_database());
END
$do$;

-- One row a policy, "<namespace>/<name>". The epoch grows at each barrier; readers order a history by (epoch, position).
CREATE TABLE IF NOT EXISTS pgtier.shadow_state (
  policy        text        PRIMARY KEY,
  number        integer     GENERATED ALWAYS AS IDENTITY UNIQUE,  -- in keys of advisory locks
  installed     boolean     NOT NULL DEFAULT true,
  version       text        NOT NULL DEFAULT '',
  tier          text        NOT NULL DEFAULT 'triggers' CHECK (tier IN ('triggers', 'notify', 'cdc')),
  epoch         bigint      NOT NULL DEFAULT 1,
  actor_setting text        NOT NULL DEFAULT '',
  channel       text        NOT NULL DEFAULT '',
  slot          text        NOT NULL DEFAULT '',
  draining      boolean     NOT NULL DEFAULT false,  -- notify was left, and the end of it has not been seen
  waits_taken   boolean     NOT NULL DEFAULT false,  -- shadow_waits holds who may still run the old body
  changed_at    timestamptz NOT NULL DEFAULT now()
);

-- The tables of the policies. A source is known by its oid, so that a rename loses nothing; a history by its name, so
-- that another table may take its place.
CREATE TABLE IF NOT EXISTS pgtier.shadow_tables (
  id             integer  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  policy         text     NOT NULL REFERENCES pgtier.shadow_state,
  source         oid      NOT NULL,
  source_schema  text     NOT NULL,
  source_name    text     NOT NULL,
  history_schema text     NOT NULL,
  history_name   text     NOT NULL,
  made           boolean  NOT NULL DEFAULT false,  -- by pgtier, not adopted
  installed      boolean  NOT NULL DEFAULT false,
  new_row        text,  -- an adopted history's columns that hold whole rows as json or jsonb
  old_row        text,
  follows        boolean  NOT NULL DEFAULT true,  -- columns that the source gets are added to the history
  key            text[]   NOT NULL DEFAULT '{}',  -- the primary key's columns, where they can be hashed
  shards         smallint NOT NULL DEFAULT 1 CHECK (shards BETWEEN 1 AND 64)
);
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'pgtier.shadow_tables'::regclass AND attname = 'followed') THEN
    -- Grows with each change of the source that was carried over: see shadow_follow.
    ALTER TABLE pgtier.shadow_tables ADD COLUMN followed bigint NOT NULL DEFAULT 0;
  END IF;
END
$do$;
CREATE UNIQUE INDEX IF NOT EXISTS shadow_tables_source ON pgtier.shadow_tables (source) WHERE installed;
-- A policy that was deleted with deletionPolicy Retain: another one may take its tables over.
ALTER TABLE pgtier.shadow_state ADD COLUMN IF NOT EXISTS retained boolean NOT NULL DEFAULT false;
-- A history has one source. Two that share one since an earlier version are named by the preflight.
DO $do$
BEGIN
  IF to_regclass('pgtier.shadow_tables_history') IS NULL THEN
    CREATE UNIQUE INDEX shadow_tables_history ON pgtier.shadow_tables (history_schema, history_name) WHERE installed;
  END IF;
EXCEPTION WHEN unique_violation THEN NULL;
END
$do$;

-- Which column of the history holds what: by the source's attribute number, so that a rename is seen as one.
CREATE TABLE IF NOT EXISTS pgtier.shadow_columns (
  table_id   integer  NOT NULL REFERENCES pgtier.shadow_tables ON DELETE CASCADE,
  attnum     smallint NOT NULL,
  name       text     NOT NULL,  -- in the source
  type       oid      NOT NULL,  -- domains: their base type
  new_column text,               -- in history and outbox: the row after the change; NULL: not recorded
  old_column text,               -- the row before it, for UPDATE
  PRIMARY KEY (table_id, attnum)
);

-- What a consumer of cdc that is behind needs to know: a source's column that came by another name in older changes.
CREATE TABLE IF NOT EXISTS pgtier.shadow_renames (
  id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id  integer     NOT NULL,
  attnum    smallint    NOT NULL,
  change    text        NOT NULL CHECK (change IN ('rename', 'type', 'drop')),
  was_name  text        NOT NULL,  -- in the source, before
  was_type  oid         NOT NULL,
  now_name  text,                  -- NULL: dropped
  -- Where changes of before belong, by the names that the history's columns have had since.
  new_column text,
  old_column text,
  lsn       pg_lsn      NOT NULL DEFAULT pg_current_wal_insert_lsn(),
  at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Who may still run the body of notify after a swap away from it.
CREATE TABLE IF NOT EXISTS pgtier.shadow_waits (
  policy    text        NOT NULL REFERENCES pgtier.shadow_state,
  vxid      text        NOT NULL,
  prepared  boolean     NOT NULL,
  server_up timestamptz NOT NULL,  -- a restart ends all but prepared transactions, and gives their numbers anew
  PRIMARY KEY (policy, vxid)
);

-- What the replica identities were before cdc.
CREATE TABLE IF NOT EXISTS pgtier.shadow_identities (
  relation oid  PRIMARY KEY,
  policy   text NOT NULL,
  identity "char" NOT NULL,
  index    text
);

-- How far the consumer of cdc has come; written in the transaction of the rows.
CREATE TABLE IF NOT EXISTS pgtier.shadow_checkpoint (
  policy            text        PRIMARY KEY,
  system_identifier text        NOT NULL DEFAULT '',
  timeline          bigint      NOT NULL DEFAULT 0,
  slot              text        NOT NULL DEFAULT '',
  lsn               pg_lsn      NOT NULL DEFAULT '0/0',
  epoch             bigint      NOT NULL DEFAULT 0,
  ended_epoch       bigint      NOT NULL DEFAULT 0,  -- of the newest barrier out of cdc that it has reached
  updated_at        timestamptz NOT NULL DEFAULT now()
);

-- A value that nobody else can read: who has set pgtier.shadow_own_ddl to it is pgtier, whose DDL is not to be followed.
-- Of the role that installs; nothing is granted on it.
CREATE TABLE IF NOT EXISTS pgtier.shadow_own (value text NOT NULL);
INSERT INTO pgtier.shadow_own SELECT gen_random_uuid()::text WHERE NOT EXISTS (SELECT FROM pgtier.shadow_own);

-- Says, until the transaction ends or it is taken back, that what comes is pgtier's.
CREATE OR REPLACE FUNCTION pgtier.shadow_own_ddl(own boolean) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT set_config('pgtier.shadow_own_ddl', CASE WHEN own THEN (SELECT value FROM pgtier.shadow_own) ELSE '' END, true)
$fn$;
CREATE OR REPLACE FUNCTION pgtier.shadow_is_own_ddl() RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $fn$
  SELECT coalesce(current_setting('pgtier.shadow_own_ddl', true) IN (SELECT value FROM pgtier.shadow_own), false)
$fn$;

-- Rows that could not be written into their history.
CREATE TABLE IF NOT EXISTS pgtier.shadow_dead_letters (
  id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  policy   text        NOT NULL,
  source   text        NOT NULL,
  epoch    bigint,
  position bigint,
  lsn      pg_lsn,
  payload  bytea       NOT NULL,
  error    text        NOT NULL,
  at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Delivery Payload: see payload.sql. Bodies of notify send rows while `payload`; `payload_since` stays until all that was
-- sent has been heard, which is so when who listens has heard a beat with the number `payload_end`.
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'pgtier.shadow_state'::regclass AND attname = 'payload') THEN
    ALTER TABLE pgtier.shadow_state
      ADD COLUMN payload        boolean NOT NULL DEFAULT false,
      ADD COLUMN payload_since  timestamptz,
      ADD COLUMN payload_end    bigint  NOT NULL DEFAULT 0,
      ADD COLUMN payload_ending boolean NOT NULL DEFAULT false;
  END IF;
END
$do$;
-- Who listens, or listened last: all that was committed before `heard` is in the outboxes.
CREATE TABLE IF NOT EXISTS pgtier.shadow_listeners (
  policy    text        PRIMARY KEY REFERENCES pgtier.shadow_state,
  heard     timestamptz NOT NULL,
  heard_end bigint      NOT NULL DEFAULT 0,
  ended     boolean     NOT NULL DEFAULT false  -- in order: nothing is missing after `heard` either
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
-- Between which times rows that were sent may be missing.
CREATE TABLE IF NOT EXISTS pgtier.shadow_gaps (
  id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  policy text        NOT NULL,
  since  timestamptz NOT NULL,
  until  timestamptz NOT NULL
);
-- Signs what pgtier sends.
CREATE TABLE IF NOT EXISTS pgtier.shadow_payload_key (secret text NOT NULL);
INSERT INTO pgtier.shadow_payload_key SELECT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')
  WHERE NOT EXISTS (SELECT FROM pgtier.shadow_payload_key);
GRANT SELECT ON pgtier.shadow_payload_key TO pgtier_shadow;
GRANT SELECT, UPDATE ON pgtier.shadow_listeners TO pgtier_shadow;

ALTER TABLE pgtier.shadow_checkpoint SET (fillfactor = 20, autovacuum_vacuum_scale_factor = 0,
                                          autovacuum_vacuum_threshold = 500);
GRANT USAGE ON SCHEMA pgtier TO pgtier_shadow;
REVOKE CREATE ON SCHEMA pgtier FROM pgtier_shadow;  -- earlier versions gave it
GRANT USAGE ON SCHEMA pgtier TO pgtier_shadow_notify, pgtier_shadow_cdc;
GRANT SELECT ON pgtier.shadow_state, pgtier.shadow_tables, pgtier.shadow_columns, pgtier.shadow_renames
  TO pgtier_shadow, pgtier_shadow_notify, pgtier_shadow_cdc;
GRANT SELECT, INSERT, UPDATE ON pgtier.shadow_checkpoint TO pgtier_shadow_cdc;
GRANT INSERT ON pgtier.shadow_dead_letters TO pgtier_shadow, pgtier_shadow_cdc;
