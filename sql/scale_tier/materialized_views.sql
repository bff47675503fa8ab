-- Materialized views that pgtier refreshes on the primary, whichever that is: the instance's own pgtier-heartbeat calls
-- refresh_due() once a second (docs/decisions/0045). Run by the superuser, again after each change of this file; every
-- statement may find its work done.
CREATE TABLE IF NOT EXISTS pgtier.materialized_views (
  name      text        PRIMARY KEY,  -- as the policy writes it
  every     interval    NOT NULL,
  listed_at timestamptz NOT NULL DEFAULT now(),
  began_at  timestamptz,              -- the last refresh
  fresh_at  timestamptz,              -- the last one that succeeded, when it began
  problem   text        NOT NULL DEFAULT ''  -- why the last one failed; empty: it did not
);

-- Makes the list what `wanted` says: an object of names and times in milliseconds. What stays keeps its history.
CREATE OR REPLACE FUNCTION pgtier.set_materialized_views(wanted jsonb) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  DELETE FROM pgtier.materialized_views WHERE NOT wanted ? name;
  INSERT INTO pgtier.materialized_views (name, every)
    SELECT key, value::bigint * interval '1 millisecond' FROM jsonb_each_text(wanted)
    ON CONFLICT (name) DO UPDATE SET every = excluded.every;
$$;

-- Refreshes one view, and says what is wrong or nothing. CONCURRENTLY, so that readers go on, here and on standbys. One
-- that was never filled has no readers and can only be refreshed plainly. Its query runs as the view's owner
-- (PostgreSQL, REFRESH MATERIALIZED VIEW), whoever calls.
CREATE OR REPLACE FUNCTION pgtier.refresh(wanted text) RETURNS text
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  parts text[];
  view oid;
  view_sql text;
  kind "char";
  filled boolean;
BEGIN
  parts := parse_ident(wanted);
  IF cardinality(parts) > 2 THEN RETURN 'it is no name of a view'; END IF;
  -- A name without a schema is one in public.
  SELECT c.oid, c.relkind, c.relispopulated, format('%I.%I', n.nspname, c.relname) INTO view, kind, filled, view_sql
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = CASE cardinality(parts) WHEN 2 THEN parts[1] ELSE 'public' END
      AND c.relname = parts[cardinality(parts)];
  IF kind IS DISTINCT FROM 'm' THEN
    RETURN CASE WHEN kind IS NULL THEN 'there is no such view' ELSE 'it is no materialized view' END;
  END IF;
  IF filled AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = view AND indisunique AND indisvalid
                              AND indimmediate AND indpred IS NULL AND indexprs IS NULL) THEN
    RETURN 'it has no unique index over plain columns of all rows, which REFRESH CONCURRENTLY needs';
  END IF;
  EXECUTE format('REFRESH MATERIALIZED VIEW %s %s', CASE WHEN filled THEN 'CONCURRENTLY' ELSE '' END, view_sql);
  RETURN '';
EXCEPTION WHEN OTHERS THEN
  -- The first line only: details may hold rows.
  RETURN split_part(SQLERRM, E'\n', 1);
END
$$;

-- Refreshes what is due, each in a transaction of its own. Two of it never run at once: who wants the lock in vain goes.
CREATE OR REPLACE PROCEDURE pgtier.refresh_due()
  LANGUAGE plpgsql
AS $$
DECLARE
  due pg_catalog.text;
  found_wrong pg_catalog.text;
  started CONSTANT pg_catalog.timestamptz := pg_catalog.clock_timestamp();  -- Each view once a call.
BEGIN
  -- A procedure that commits can't have a SET clause. Who owns the database may have set a search_path by which types and
  -- operators below would be theirs, run by the superuser.
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
  IF pg_catalog.pg_is_in_recovery() OR NOT pg_catalog.pg_try_advisory_lock(123607421838450) THEN RETURN; END IF;
  LOOP
    SELECT name INTO due FROM pgtier.materialized_views
      WHERE began_at IS NULL OR (began_at < started AND pg_catalog.clock_timestamp() - began_at >= every)
      ORDER BY began_at NULLS FIRST LIMIT 1;
    EXIT WHEN due IS NULL;
    UPDATE pgtier.materialized_views SET began_at = pg_catalog.clock_timestamp() WHERE name = due;
    COMMIT;
    found_wrong := pgtier.refresh(due);
    UPDATE pgtier.materialized_views
      SET problem = found_wrong, fresh_at = CASE WHEN found_wrong = '' THEN began_at ELSE fresh_at END WHERE name = due;
    COMMIT;
  END LOOP;
  PERFORM pg_catalog.pg_advisory_unlock(123607421838450);
END
$$;

REVOKE ALL ON FUNCTION pgtier.set_materialized_views(jsonb), pgtier.refresh(text) FROM PUBLIC;
REVOKE ALL ON PROCEDURE pgtier.refresh_due() FROM PUBLIC;
GRANT SELECT ON pgtier.materialized_views TO pgtier_monitor;
