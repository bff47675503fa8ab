#!/usr/bin/env bash
# run.sh [e2e]   Installs what is needed and runs the tests: all of them, or only those on pods of a real cluster.
#
# All: unit and integration tests; the same under AddressSanitizer and UndefinedBehaviorSanitizer; the threaded parts
# under ThreadSanitizer; then a cluster, the images, pgtier by its Helm chart, and the end-to-end tests.
# What it builds for others than this checkout is kept in ${PGTIER_CACHE:-~/.cache/pgtier}, ccache's and Go's caches.
set -euo pipefail
cd "$(dirname "$0")/.."

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

# Leaves no cluster behind that this run has brought up.
was_up=false
take_down() { $was_up || testbed/cluster.sh down >/dev/null 2>&1 || true; }

# A program with cpprestsdk in it has been seen to hang at its exit, its tests passed, in the library's own threads: what
# runs into its time limit gets one more try, what fails does not. Most tests wait for others more than they compute.
run_tests() { ctest "$@" --parallel 2 --repeat after-timeout:2 --progress; }

unit_and_integration() {
  step "programs and packages"
  testbed/install.sh build rootfs
  KUBEBUILDER_ASSETS=$(testbed/programs.sh etcd kube-apiserver kubectl)
  export KUBEBUILDER_ASSETS
  testbed/rootfs.sh 17 >/dev/null
  testbed/promtool.sh >/dev/null

  step "compile (dev)"
  compile dev
  step "unit and integration tests"
  [[ -n ${PGTIER_PGCAT:-} ]] || echo "the tests of a local PgCat are skipped: PGTIER_PGCAT names no program"
  [[ -n ${PGTIER_CITUS_PORT:-} ]] || echo "the test of a real Citus is skipped: PGTIER_CITUS_PORT names no server"
  [[ -n ${PGTIER_TIMESCALE:-} ]] || echo "the test of compression is skipped: PGTIER_TIMESCALE names no server with TimescaleDB's Community build"
  run_tests --preset dev -LE e2e
  step "compile (asan)"
  compile asan
  step "unit and integration tests under AddressSanitizer and UndefinedBehaviorSanitizer"
  run_tests --preset asan -LE e2e
  step "compile (tsan)"
  compile tsan kube_test http_test
  step "threaded parts under ThreadSanitizer"
  run_tests --preset tsan -R '^(kube_test|http_test)\.'
}

end_to_end() {
  step "compile (release, e2e tests) and build images"
  testbed/install.sh build cluster images
  compile release
  compile dev e2e_tests
  rm -rf build/image
  cmake --install build/release --strip --prefix build/image >/dev/null
  PATH=$(testbed/programs.sh):$PATH
  testbed/images.sh
  step "cluster"
  if testbed/cluster.sh status >/dev/null 2>&1; then was_up=true; else export PGTIER_E2E_OWN_CLUSTER=1; fi
  trap take_down EXIT
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
  PGTIER_E2E=1 ctest --preset dev -L e2e --progress
}

case "${1:-all}" in
  all)
    unit_and_integration
    end_to_end
    ;;
  e2e) end_to_end ;;
  *)
    echo "usage: tests/run.sh [e2e]" >&2
    exit 64
    ;;
esac
