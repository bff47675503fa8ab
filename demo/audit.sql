-- An application that keeps customers and their trades, for the audit policy of the demo. Each transaction notes how many
-- rows it changed, so what it did is known to the row: audit_ledger.
CREATE TABLE IF NOT EXISTS customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
                                      balance numeric NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS trades (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer bigint NOT NULL,
                                   amount numeric NOT NULL);
CREATE TABLE IF NOT EXISTS audit_ledger (changes bigint NOT NULL);
CREATE TABLE IF NOT EXISTS audit_stop (now boolean);
GRANT SELECT ON customers TO pgtier_monitor;

CREATE OR REPLACE PROCEDURE audit_work(who text) LANGUAGE plpgsql AS $$
DECLARE
  made bigint;
  changes bigint;
  touched bigint;
BEGIN
  WHILE NOT EXISTS (SELECT FROM audit_stop) LOOP
    PERFORM set_config('app.actor', who, true);
    INSERT INTO customers (name) VALUES ('customer of ' || who) RETURNING id INTO made;
    INSERT INTO trades (customer, amount) VALUES (made, 1), (made, 2), (made, 3);
    changes := 4;
    UPDATE customers SET balance = balance + 6 WHERE id = made;
    GET DIAGNOSTICS touched = ROW_COUNT;
    changes := changes + touched;
    DELETE FROM trades WHERE customer = made - 50;
    GET DIAGNOSTICS touched = ROW_COUNT;
    INSERT INTO audit_ledger VALUES (changes + touched);
    COMMIT;
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
