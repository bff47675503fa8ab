#!/usr/bin/env bash
# cluster_test.sh recover|down   The testbed's own promises: it comes up over what was killed, and leaves nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
  echo "skipped: $*"
  exit 77
}
[[ -n ${PGTIER_E2E:-} ]] || skip "set PGTIER_E2E=1 and KUBECONFIG to a cluster with pgtier installed; \`make e2e\` does both"
[[ ${KUBECONFIG:-} == *pgtier-testbed* ]] || skip "not the testbed's own cluster"

nodes_ready() { kubectl wait --for=condition=Ready node --all --timeout=60s; }

# What a cluster of the testbed is made of, as far as the host can see it.
leftovers() {
  ip -o link show | grep -i pgtier || true
  ip netns list 2>/dev/null | grep -i pgtier || true
  ip route show | grep 10.200.0 || true
  grep -E 'pgtier-testbed|/run/pgtier|kubelet' /proc/self/mounts || true
  # Not those of integration tests, which run as plain processes.
  pgrep -a 'kubelet|kube-apiserver|kube-proxy|containerd-shim|coredns' | grep -v /tmp/pgtier-apiserver- || true
  find /sys/fs/cgroup -maxdepth 3 -type d -name '*pgtier*' 2>/dev/null || true
  nft list ruleset 2>/dev/null | grep -i kube || true
}

case "${1:?recover or down}" in
  recover)
    before=$(kubectl get pods -n pgtier-system -o jsonpath='{.items[*].metadata.uid}')
    for program in kube-apiserver kubelet containerd etcd; do testbed/cluster.sh stop "$program"; done
    testbed/cluster.sh up >/dev/null
    nodes_ready
    after=$(kubectl get pods -n pgtier-system -o jsonpath='{.items[*].metadata.uid}')
    [[ $before == "$after" ]] || { echo "pods were made anew: $before, then $after"; exit 1; }
    testbed/cluster.sh up >/dev/null # up on what is up changes nothing
    ;;
  down)
    [[ -n ${PGTIER_E2E_OWN_CLUSTER:-} ]] || skip "the cluster was up before the tests: it is not theirs to take down"
    testbed/cluster.sh down
    left=$(leftovers)
    [[ -z $left ]] || { printf 'left behind:\n%s\n' "$left"; exit 1; }
    ;;
esac
