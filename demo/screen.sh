# What the demo prints and measures. Sourced by demo/run.sh.
# shellcheck shell=bash

headline() { printf '\n\033[1m%s\033[0m\n' "$*"; }
say() { printf '   %s\n' "$*"; }
fail() {
  printf '\n   FAILED: %s\n' "$*" >&2
  kubectl get scaletiers -A >&2 2>/dev/null || true
  kubectl get pods -n data >&2 2>/dev/null || true
  exit 1
}

# A field of the policy, by jq.
field() { kubectl get -n data scaletier/kyoyu -o json | jq -r "$1 // empty"; }
condition() { field ".status.conditions[] | select(.type == \"$1\") | .message"; }
why() { field '.status.conditions[] | select(.type == "Ready" or .type == "MetricsAvailable") | "\(.type) \(.status) \(.reason): \(.message)"' | tr '\n' ' '; }

table() { kubectl get -n data scaletiers | sed 's/^/   /'; }
wide() { kubectl get -n data scaletiers -o wide | sed 's/^/   /'; }

remove_leftovers() {
  kubectl delete -n data pod/kyoyu-load --ignore-not-found --grace-period=1 >/dev/null 2>&1 || true
  kubectl delete -n data shadowtables/kyoyu-audit --ignore-not-found --timeout=60s >/dev/null 2>&1 || true
  kubectl delete -n data scaletier/kyoyu --ignore-not-found >/dev/null 2>&1 || true
  # The policy says Remove: Kubernetes collects all that it owned.
  kubectl wait -n data --for=delete pod,pvc -l pgtier.dev/policy=kyoyu --timeout=2m >/dev/null 2>&1 || true
}

# Prints the table each 5 s, with the load's last second, until the policy is in tier $1; at most $2 s.
watch_until_tier() {
  local tier=$1 limit=$2 start=$SECONDS
  while ((SECONDS - start < limit)); do
    table
    tail -1 "$log" | jq -r '"      load: \(.phase), \(.readers) readers, \(.qps) queries/s, p95 \(.p95) ms, \(.events_per_s) events/s, \(.failed) failed"' 2>/dev/null || true
    [[ $(field .status.tier) != "$tier" ]] || return 0
    sleep 5
  done
  return 1
}

# Whether the read endpoint's connections end on a standby.
replicas_serve() {
  local password answer
  password=$(kubectl get -n data secret/kyoyu-app -o jsonpath='{.data.password}' | base64 -d)
  answer=$(printf '%s\n' "$password" | kubectl exec -i -n data kyoyu-1-0 -- sh -c \
    'read -r PGPASSWORD; export PGPASSWORD; psql -h kyoyu-ro -U kyoyu kyoyu -Atc "select pg_is_in_recovery()"')
  say "select pg_is_in_recovery() through kyoyu-ro: $answer"
  [[ $answer == t ]]
}

events() {
  kubectl get events -n data --field-selector "involvedObject.uid=$(field .metadata.uid)" --sort-by=.metadata.creationTimestamp \
    -o custom-columns=TIME:.eventTime,TYPE:.type,REASON:.reason,MESSAGE:.message 2>/dev/null | sed 's/^/   /' || true
}

# Median of the load's p95 of each second at its peak from $2 to $3 (seconds since the epoch).
p95_between() {
  jq -rs --argjson from "$2" --argjson to "$3" '
    [.[] | select(.phase == "peak" and .p95 != null) | (.ts | sub("\\.[0-9]+Z$"; "Z") | fromdateiso8601) as $at
     | select($at >= $from and $at < $to) | .p95] | sort | if length == 0 then null else .[length / 2 | floor] end' "$1"
}

# Writes summary.json: what the issue of the climb names, from the policy's status and the load's own counts. Both medians
# are of the same load, all readers: before is from when they were all there until the tier was entered.
summarise() {
  local log=$1 file=$2 before=$3 after=$4 seconds=$5 tier entered
  tier=$(field ".status.tiers[] | select(.name == \"$after\")")
  entered=$(jq -rn --argjson tier "$tier" '$tier.enteredAt | fromdateiso8601')
  jq -n --argjson tier "$tier" --argjson load "$(grep '"summary"' "$log" | tail -1)" \
    --arg before "$before" --arg after "$after" --argjson seconds "$seconds" \
    --argjson p95_before "$(p95_between "$log" 0 "$entered")" \
    --argjson p95_after "$(p95_between "$log" "$((entered + 5))" "$((entered + 25))")" '
    {tier_before: $before, tier_after: $after, trigger: $tier.trigger.name, observed: $tier.trigger.observed,
     threshold: $tier.trigger.threshold, message: $tier.message, queries: $load.queries,
     failed_queries: $load.failed_total, longest_stall_ms: $load.longest_stall_ms,
     p95_before_ms: $p95_before, p95_after_ms: $p95_after, events_acknowledged: $load.events_acknowledged,
     events_in_table: $load.events_in_table, ledger_ok: $load.ledger_ok, seconds: $seconds}' >"$file"
}

# Prints the summary and ends with 0 only if every part of it holds.
judge() {
  local file=$1 wrong
  jq -r '
    "   \(.tier_before) -> \(.tier_after): \(.message)",
    "   queries run \(.queries), failed \(.failed_queries), longest stall \(.longest_stall_ms) ms",
    "   p95 of queries with all readers, median over seconds: \(.p95_before_ms) ms before, \(.p95_after_ms) ms after",
    "   events acknowledged \(.events_acknowledged), in the table \(.events_in_table)",
    "   audit: \(.audit_tiers | join(" -> ")); rows written \(.audit_rows_app), in the histories \(.audit_rows_history), missing \(.audit_missing), extra \(.audit_extra)",
    "   \(.seconds) s in all; \(input_filename)"' "$file"
  wrong=$(jq -r '
    [if .tier_before != "single-node" then "it did not start in single-node" else empty end,
     if .tier_after != "read-replicas" then "it did not end in read-replicas" else empty end,
     if (.trigger // "") == "" then "no trigger is recorded" else empty end,
     if (.queries // 0) < 1000 then "too few queries ran to say anything" else empty end,
     if .failed_queries != 0 then "\(.failed_queries) queries failed" else empty end,
     if .ledger_ok != true then "acknowledged events are missing" else empty end,
     if .audit_tiers != ["triggers", "notify", "cdc"] then "the audit policy did not climb" else empty end,
     if (.audit_rows_app // 0) < 1000 then "too few rows were written to say anything of histories" else empty end,
     if .audit_missing != 0 or .audit_extra != 0 then "the histories are not what was written" else empty end,
     if .p95_before_ms == null then "the climb ended before all readers were there: nothing to compare with"
       elif .p95_after_ms == null or .p95_after_ms >= .p95_before_ms then "p95 did not fall" else empty end] | join("; ")' "$file")
  [[ -z $wrong ]] || fail "$wrong"
  headline "All of it held."
}
