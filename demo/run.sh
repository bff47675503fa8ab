#!/usr/bin/env bash
# The first climb, from nothing: a cluster, pgtier by its Helm chart, the policy kyoyu, and an application whose load
# rises until a measured number takes its Postgres from one node to read replicas. Exits 0 only if all of it held.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/screen.sh
. demo/screen.sh
# shellcheck source=demo/audit.sh
. demo/audit.sh

began=$SECONDS
out=build/demo
mkdir -p "$out"
log=$out/load.jsonl
climb_limit=${PGTIER_DEMO_CLIMB_SECONDS:-240}

headline "1. Build, cluster, images"
make --no-print-directory image >"$out/image.log" 2>&1 &
building=$!
make --no-print-directory cluster | tee "$out/cluster.log" | sed 's/^/   /'
wait "$building" || { tail -30 "$out/image.log"; fail "the build failed; see $out/image.log"; }
testbed/images.sh >>"$out/image.log" 2>&1
eval "$(grep '^export KUBECONFIG=' "$out/cluster.log")"
PATH=$(testbed/programs.sh kubectl helm 2>/dev/null):$PATH
kubectl version 2>/dev/null | sed -n 's/Server Version: /   Kubernetes /p'

headline "2. pgtier by Helm, Prometheus"
# What an earlier run left would be found climbed already.
remove_leftovers
kubectl apply -f manifests/demo/prometheus.yaml >/dev/null
kubectl apply --server-side --force-conflicts -f crds/ >/dev/null
helm upgrade --install pgtier helm/pgtier --namespace pgtier-system --create-namespace --wait --timeout 3m 2>/dev/null |
  sed -n 's/^STATUS: /   pgtier: /p'
# The tag of a development image does not change with its contents.
kubectl -n pgtier-system rollout restart deployment/pgtier >/dev/null
kubectl -n pgtier-system rollout status deployment/pgtier --timeout=2m >/dev/null
kubectl -n monitoring rollout status deployment/prometheus --timeout=2m | sed 's/^/   /'

headline "3. The policy kyoyu"
sed -n 's/^# /   /p' manifests/examples/kyoyu-demo.yaml
kubectl get namespace data >/dev/null 2>&1 || kubectl create namespace data >/dev/null
kubectl apply -f manifests/examples/kyoyu-demo.yaml | sed 's/^/   /'
kubectl wait -n data scaletier/kyoyu --for=condition=Ready --timeout=3m >/dev/null || fail "kyoyu did not become Ready: $(why)"
table
tier_before=$(field .status.tier)

headline "4. Load, rising until a trigger fires"
kubectl apply -f manifests/demo/load.yaml >/dev/null
kubectl wait -n data pod/kyoyu-load --for=condition=Ready --timeout=2m >/dev/null || fail "the load did not start"
kubectl logs -n data kyoyu-load -f 2>/dev/null >"$log" &
watch_until_tier read-replicas "$climb_limit" || fail "no climb in $climb_limit s: $(why)"
tier_after=$(field .status.tier)

headline "5. After the climb"
say "letting the load go on for 25 s on replicas"
sleep 25
table
wide
replicas_serve || fail "the read endpoint does not reach a replica"
events

headline "6. The audit policy, under the same load"
sed -n 's/^# /   /p' manifests/demo/audit.yaml
audit_start
audit_watch notify 120 || fail "the audit policy did not climb: $(audit_why)"
audit_watch cdc 120 || fail "the audit policy did not climb on: $(audit_why)"
say "letting the worker read the log for 10 s"
sleep 10
audit_end
kubectl delete -n data pod/kyoyu-load --wait=false >/dev/null
kubectl wait -n data pod/kyoyu-load --for=delete --timeout=90s >/dev/null || fail "the load did not end"
wait %2 2>/dev/null || true

headline "7. What happened"
summarise "$log" "$out/summary.json" "$tier_before" "$tier_after" "$((SECONDS - began))"
jq --argjson audit "$audit_summary" '. + $audit' "$out/summary.json" >"$out/summary.new" && mv "$out/summary.new" "$out/summary.json"
judge "$out/summary.json"
