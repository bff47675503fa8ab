#!/usr/bin/env bash
# run.sh [e2e]   Installs what is needed and runs the tests: all of them, or only those on pods of a real cluster.
#
# All: unit and integration tests under AddressSanitizer and UndefinedBehaviorSanitizer; the threaded parts under
# ThreadSanitizer; then a cluster, the images, pgtier by its Helm chart, and the end-to-end tests. (Without sanitizers, for
# the loop of a change: make integration.)
# What it builds for others than this checkout is kept in ${PGTIER_CACHE:-~/.cache/pgtier}, ccache's and Go's caches.
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-all}
began=$SECONDS
step() { printf '\n== [%4ss] %s\n' "$((SECONDS - began))" "$*"; }

# Compiles some targets (all without one) of a preset; its output only where it fails.
compile() {
  local preset=$1
  shift
  mkdir -p build
  {
    cmake --preset "$preset"
    cmake --build --preset "$preset" ${1:+--target "$@"}
  } >"build/$preset.log" 2>&1 || { grep -E 'error|FAILED' -A 5 "build/$preset.log" | head -80; exit 1; }
}

# What is made beside the tests gets only what they leave of the processors: most of them wait for others more than they
# compute. `finish` waits for it, shows what it said, and fails where it failed.
making=
in_background() {
  set -m # a process group of its own, for `leave`
  chrt --idle 0 "$PWD/tests/run.sh" "$1" >"build/$1.log" 2>&1 &
  making=$!
  set +m
}
finish() {
  wait "$making" || { cat "build/$1.log"; exit 1; }
  making=
  cat "build/$1.log"
}

# Leaves nothing behind that this run has started: no compiler, and no cluster where there was none. Then says what all
# runs of ctest together counted, each of which has only said it of its own.
was_up=true
leave() {
  [[ -z $making ]] || { kill -- "-$making" 2>/dev/null && wait "$making"; } || true
  $was_up || testbed/cluster.sh down >/dev/null 2>&1 || true
  [[ ! -d $results || $part == images ]] || count_results || true
}
trap leave EXIT

results=$PWD/build/results
run_ctest() {
  mkdir -p "$results"
  ctest "$@" --output-junit "$results/$SECONDS.xml" --progress
}
# Of the head of each file: <testsuite tests="5" failures="0" disabled="0" skipped="1" ...>
count_results() {
  cat "$results"/*.xml | tr '\n\t' '  ' | grep -o '<testsuite [^>]*>' | awk '
    function attribute(name) { return match($0, " " name "=\"[0-9]+\"") ? substr($0, RSTART + length(name) + 3, RLENGTH) + 0 : 0 }
    { all += attribute("tests"); failed += attribute("failures"); skipped += attribute("skipped") + attribute("disabled") }
    END { printf "\n%d passed, %d failed, %d skipped\n", all - failed - skipped, failed, skipped }'
}

# A program with cpprestsdk in it has been seen to hang at its exit, its tests passed, in the library's own threads: what
# runs into its time limit gets one more try, what fails does not.
run_tests() { run_ctest "$@" --parallel 2 --repeat after-timeout:2; }

unit_and_integration() {
  step "programs and packages"
  testbed/install.sh build rootfs cluster
  mkdir -p build
  testbed/rootfs.sh 17 >build/rootfs.log 2>&1 &
  KUBEBUILDER_ASSETS=$(testbed/programs.sh etcd kube-apiserver kubectl)
  export KUBEBUILDER_ASSETS
  wait $! || { cat build/rootfs.log; exit 1; }
  testbed/rootfs.sh 15 >/dev/null
  testbed/promtool.sh >/dev/null

  step "compile (asan)"
  compile asan
  step "unit and integration tests under AddressSanitizer and UndefinedBehaviorSanitizer"
  in_background images
  [[ -n ${PGTIER_PGCAT:-} ]] || echo "the tests of a local PgCat are skipped: PGTIER_PGCAT names no program"
  [[ -n ${PGTIER_CITUS_PORT:-} ]] || echo "the test of a real Citus is skipped: PGTIER_CITUS_PORT names no server"
  [[ -n ${PGTIER_TIMESCALE:-} ]] || echo "the test of compression is skipped: PGTIER_TIMESCALE names no server with TimescaleDB's Community build"
  run_tests --preset asan -LE e2e
  step "compile (tsan; without a sanitizer what it would hide)"
  compile tsan kube_test http_test
  compile dev http_test
  step "threaded parts under ThreadSanitizer"
  run_tests --preset tsan -R '^(kube_test|http_test)\.'
  step "bounds of memory, which sanitizers hide"
  run_tests --preset dev -R '^http_test\.'
  step "what was made beside them"
  finish images
}

# The cluster's programs and the images, from nothing.
images() {
  testbed/install.sh build cluster images
  PATH=$(KUBEBUILDER_ASSETS='' testbed/programs.sh):$PATH
  compile release
  rm -rf build/image
  cmake --install build/release --strip --prefix build/image >/dev/null
  testbed/images.sh
}

# end_to_end <preset>   With the test programs of that preset.
end_to_end() {
  step "cluster"
  PATH=$(KUBEBUILDER_ASSETS='' testbed/programs.sh):$PATH
  if testbed/cluster.sh status >/dev/null 2>&1; then was_up=true; else was_up=false; export PGTIER_E2E_OWN_CLUSTER=1; fi
  testbed/cluster.sh up | tee build/cluster.log
  eval "$(grep '^export KUBECONFIG=' build/cluster.log)"
  step "pgtier by Helm"
  kubectl apply --server-side --force-conflicts -f crds/ >/dev/null
  kubectl apply -f manifests/demo/prometheus.yaml >/dev/null
  helm upgrade --install pgtier helm/pgtier --namespace pgtier-system --create-namespace --wait --timeout 3m 2>/dev/null
  # The tag of a development image does not change with its contents.
  kubectl -n pgtier-system rollout restart deployment/pgtier
  kubectl -n pgtier-system rollout status deployment/pgtier --timeout=2m
  kubectl -n monitoring rollout status deployment/prometheus --timeout=2m
  step "end-to-end tests on pods"
  [[ -n ${PGTIER_PGCAT_IMAGE:-} ]] || echo "the tests of PgCat are skipped: PGTIER_PGCAT_IMAGE names no image of it"
  PGTIER_E2E=1 run_ctest --preset "$1" -L e2e
}

[[ $part == images ]] || rm -rf "$results"
case $part in
  all)
    unit_and_integration
    end_to_end asan
    ;;
  e2e)
    step "compile (e2e tests), programs and images"
    images
    compile dev e2e_tests
    end_to_end dev
    ;;
  images) images ;; # the part that `all` makes in the background
  *)
    echo "usage: tests/run.sh [e2e]" >&2
    exit 64
    ;;
esac
