-- Last: none of this is for others to call, but what is granted here.
DO $do$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT oid::regprocedure FROM pg_proc
           WHERE pronamespace = 'pgtier'::regnamespace AND proname LIKE 'shadow\_%' LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO pgtier_shadow', f);
  END LOOP;
END
$do$;

GRANT EXECUTE ON FUNCTION pgtier.shadow_drain(integer, integer, integer, boolean), pgtier.shadow_outboxes(text),
  pgtier.shadow_queue(integer, integer), pgtier.shadow_accept(text, text[]), pgtier.shadow_beat(text),
  pgtier.shadow_listen_begin(text), pgtier.shadow_listen_end(text), pgtier.shadow_payload_writers(text),
  pgtier.shadow_payload_channel(text) TO pgtier_shadow_notify;
