#!/usr/bin/env bash
# The alerts, by Prometheus' own promtool: that it can read them, and which figures fire which (tests/cases/alerts).
set -euo pipefail
cd "$(dirname "$0")/.."
promtool=$(testbed/promtool.sh) || exit 77
"$promtool" check rules helm/pgtier/files/alerts.yaml
"$promtool" test rules tests/cases/alerts/alerts.yaml
