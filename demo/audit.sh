# The second policy of the demo: histories of two tables, first by triggers, then by workers, while the load goes on.
# Sourced by demo/run.sh.
# shellcheck shell=bash

audit_writers=()

audit_field() { kubectl get -n data shadowtables/kyoyu-audit -o json | jq -r "$1 // empty"; }
audit_table() { kubectl get -n data shadowtables | sed 's/^/   /'; }
audit_why() { audit_field '.status.conditions[] | select(.type == "Ready" or .type == "Stalled" or .type == "Climbing") | "\(.type) \(.status) \(.reason): \(.message)"' | tr '\n' ' '; }

# psql as the application, through the endpoint that it writes to.
audit_psql() {
  local password
  password=$(kubectl get -n data secret/kyoyu-app -o jsonpath='{.data.password}' | base64 -d)
  { printf '%s\n' "$password"; cat; } | kubectl exec -i -n data kyoyu-1-0 -- sh -c \
    'read -r PGPASSWORD; export PGPASSWORD; psql -h kyoyu-rw -U kyoyu kyoyu -XAtq -v ON_ERROR_STOP=1'
}

# Makes the application's tables and the policy, and begins to write.
audit_start() {
  audit_psql <demo/audit.sql >/dev/null || fail "the application's tables could not be made"
  kubectl apply -f manifests/demo/audit.yaml | sed 's/^/   /'
  kubectl wait -n data shadowtables/kyoyu-audit --for=condition=Ready --timeout=90s >/dev/null ||
    fail "the histories were not installed: $(audit_why)"
  audit_tiers=$(audit_field .status.tier)
  local who
  for who in ada ben; do
    printf "CALL audit_work('%s');\n" "$who" | audit_psql >/dev/null 2>&1 &
    audit_writers+=($!)
  done
}

audit_counts() {
  audit_psql <<'SQL'
SELECT (SELECT coalesce(sum(changes), 0) FROM audit_ledger),
       (SELECT count(*) FROM customers_history) + (SELECT count(*) FROM trades_history);
SQL
}

# Prints rows written against rows in the histories each 5 s, until the policy is in tier $1; at most $2 s.
audit_watch() {
  local tier=$1 limit=$2 start=$SECONDS
  while ((SECONDS - start < limit)); do
    audit_table
    audit_counts | awk -F'|' '{printf "      rows written %s, in the histories %s\n", $1, $2}'
    if [[ $(audit_field .status.tier) == "$tier" ]]; then
      audit_tiers+=",$tier"
      return 0
    fi
    sleep 5
  done
  return 1
}

# Ends the application and waits until the queue is empty; then compares row by row.
audit_end() {
  printf 'INSERT INTO audit_stop VALUES (true);\n' | audit_psql
  wait "${audit_writers[@]}" 2>/dev/null || true
  local start=$SECONDS counts app history
  while ((SECONDS - start < 60)); do
    counts=$(audit_counts)
    app=${counts%%|*} history=${counts##*|}
    [[ $app != "$history" ]] || break
    sleep 1
  done
  # Beside the counts: what the newest row of each history says against what the table holds.
  local differences
  differences=$(audit_psql <<'SQL'
WITH told AS (SELECT id, name, balance FROM (SELECT DISTINCT ON (id) * FROM customers_history
                                             ORDER BY id, epoch DESC, position DESC) AS h WHERE operation <> 'DELETE'),
     traded AS (SELECT id, customer, amount FROM (SELECT DISTINCT ON (id) * FROM trades_history
                                                  ORDER BY id, epoch DESC, position DESC) AS h WHERE operation <> 'DELETE')
SELECT (SELECT count(*) FROM (SELECT id, name, balance FROM customers EXCEPT ALL SELECT * FROM told) AS a)
     + (SELECT count(*) FROM (SELECT id, customer, amount FROM trades EXCEPT ALL SELECT * FROM traded) AS b),
       (SELECT count(*) FROM (SELECT * FROM told EXCEPT ALL SELECT id, name, balance FROM customers) AS a)
     + (SELECT count(*) FROM (SELECT * FROM traded EXCEPT ALL SELECT id, customer, amount FROM trades) AS b);
SQL
  )
  audit_table
  say "rows written $app, in the histories $history; newest rows that differ: ${differences/|/ missing, } extra"
  audit_summary=$(jq -n --argjson app "$app" --argjson history "$history" --argjson missing "${differences%%|*}" \
    --argjson extra "${differences##*|}" --arg tiers "$audit_tiers" '
    {audit_rows_app: $app, audit_rows_history: $history,
     audit_missing: ([$app - $history, 0] | max + $missing), audit_extra: ([$history - $app, 0] | max + $extra),
     audit_tiers: ($tiers | split(","))}')
}
