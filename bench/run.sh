#!/usr/bin/env bash
# run.sh [--short]   Measures, and prints a table; JSON in build/bench/. Figures never fail it, only what can't be
#                    measured. --short: one minute at rest in place of five
#
# PGTIER_BENCH_POLICIES=10000   how many policies (2000)
# PGTIER_BENCH_INTERVAL=60s     their metrics.interval (absent: the default, 15s)
# PGTIER_BENCH_REST=300         seconds at rest (300)
# PGTIER_BENCH_WORKERS=16       the operator's --workers (absent: the default, 16)
# PGTIER_BENCH_PARTS=idle,policies   some of idle, unrelated, policies, soak, decisions, replicas, shadow (all)
# PGTIER_BENCH_SHADOW=overhead,cdc   some of overhead, cdc, notify, latency, large (all but large)
# PGTIER_BENCH_TURNS=5 PGTIER_BENCH_SECONDS=5 PGTIER_BENCH_ROWS=200000   of the shadow tables' parts
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  '') ;;
  --short) export PGTIER_BENCH_REST=${PGTIER_BENCH_REST:-60} ;;
  *) echo "usage: bench/run.sh [--short]" >&2; exit 64 ;;
esac

testbed/install.sh build rootfs
KUBEBUILDER_ASSETS=$(testbed/programs.sh etcd kube-apiserver kubectl)
export KUBEBUILDER_ASSETS

# A build of its own: the release preset, whose programs go into images, leaves tests and their fixtures out.
results=build/bench
build=build/bench-build
mkdir -p "$results"
{
  cmake --preset release -DPGTIER_TESTS=ON -B "$build"
  cmake --build "$build" --target pgtier-operator operator_bench decide_bench pgtier-worker replica_bench \
    shadow_bench
} >"$build.log" 2>&1 || { grep -E 'error|FAILED' -A 5 "$build.log" | head -80 >&2; exit 1; }
# As the image holds it.
rm -f "$results/pgtier-operator" "$results/pgtier-worker" "$results/operator.log"
cp "$build/operator/pgtier-operator" "$results/pgtier-operator"
strip "$results/pgtier-operator"
cp "$build/workers/pgtier-worker" "$results/pgtier-worker"
strip "$results/pgtier-worker"

echo "# $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(nproc) cores, load before: $(cut -d' ' -f1-3 /proc/loadavg)"
wants() { [[ -z ${PGTIER_BENCH_PARTS:-} || ,$PGTIER_BENCH_PARTS, == *,"$1",* ]]; }
if wants idle || wants unrelated || wants policies || wants soak; then
  printf '\n== pgtier-operator, etcd and kube-apiserver\n'
  "$build/bench/operator_bench" "$results/pgtier-operator" "$results"
fi
if wants decisions; then
  printf '\n== decisions and plans, medians of 5\n'
  "$build/bench/decide_bench" --benchmark_repetitions=5 --benchmark_display_aggregates_only=true \
    --benchmark_out="$results/decide.json" --benchmark_out_format=json 2>/dev/null |
    awk '$1 ~ /_median$/ {sub("_median", "", $1); printf "%-66s %10s %s of CPU\n", $1, $4, $5}'
fi
if wants replicas; then
  printf '\n== a replica that lags or dies: Postgres 17, PgBouncer, 8 clients\n'
  testbed/rootfs.sh 17 >/dev/null
  "$build/bench/replica_bench" "$results"
fi
if wants shadow; then
  printf '\n== shadow tables: Postgres 17, fsync on, medians of %s\n' "${PGTIER_BENCH_TURNS:-5}"
  testbed/rootfs.sh 17 >/dev/null
  "$build/bench/shadow_bench" "$results/pgtier-worker" "$results"
fi
printf '\nJSON: %s/\n' "$results"
