#!/usr/bin/env bash
# soak.sh   More seeds of the ledger (tests/integration/ledger) than `make test` has: SEEDS=n of them (200), or as many as
# MINUTES=n allow; the first is SEED, else one by the clock, so that each run tries others. BESIDE=n at a time.
# PRESET=asan runs it under sanitizers. Prints each seed and what came of it; a failing one is tried again by its number.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${PRESET:-dev}
testbed/install.sh build rootfs
testbed/rootfs.sh 17 >/dev/null
mkdir -p build
{
  cmake --preset "$preset"
  cmake --build --preset "$preset" --target ledger_integration_test
} >"build/soak-$preset.log" 2>&1 || { tail -40 "build/soak-$preset.log"; exit 1; }
export PGTIER_LEDGER_SEED=${SEED:-$(($(date +%s) % 1000000 * 100))}
export PGTIER_LEDGER_SEEDS=${SEEDS:-200} PGTIER_LEDGER_MINUTES=${MINUTES:-0} PGTIER_LEDGER_BESIDE=${BESIDE:-}
echo "the first seed is $PGTIER_LEDGER_SEED"
exec "build/$preset/tests/integration/ledger/ledger_integration_test" --gtest_brief=1
