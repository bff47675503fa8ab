#!/usr/bin/env bash
# cluster.sh up|down|status|import|stop <program>   A Kubernetes cluster of one node, as kind-config.yaml
# describes it: kind's where docker and kind are, and one without a container engine elsewhere (as root).
#   up      creates it, or brings back what died of it; its last line is the export of KUBECONFIG
#   down    ends it and leaves nothing of it but the cache
#   status  says what runs; fails unless all of it does
#   import  hands images that were built anew to a cluster that runs
#   stop    kills one of the node's programs (tests of faults); `up` brings it back
set -euo pipefail
# shellcheck source=testbed/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=testbed/cluster/settings.sh
. "$testbed/cluster/settings.sh"
# shellcheck source=testbed/cluster/cgroups.sh
. "$testbed/cluster/cgroups.sh"
# shellcheck source=testbed/cluster/pki.sh
. "$testbed/cluster/pki.sh"
# shellcheck source=testbed/cluster/config.sh
. "$testbed/cluster/config.sh"

kubectl() { "$(program kubectl)" --kubeconfig="$kubeconfig" "$@"; }

# The host's pid of the node's first process, if that lives. One that is on its way out has no namespaces any more.
node_pid() {
  local pid start
  read -r pid start 2>/dev/null <"$state/init" || return 1
  [[ $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20) == "$start" && -e /proc/$pid/ns/net ]] && echo "$pid"
}

# Runs node.sh inside of the node and its cgroups. The lock must not be inherited by what lives on.
inside() {
  local pid
  pid=$(node_pid) || return 3
  (
    join_cgroups "$BASHPID"
    exec nsenter --target "$pid" --mount --net --pid --uts --ipc "$testbed/cluster/node.sh" "$@" {lock_fd}>&-
  )
}

make_node() {
  local until=$((SECONDS + 20))
  [[ $EUID == 0 ]] || die "needs root, for namespaces, mounts and cgroups"
  remove_all # what a killed one left
  mkdir -p "$state"/{kubelet,log,volumes} /var/lib/kubelet /var/lib/cni "$container_store"
  chmod 0755 "$state"
  make_certificates
  write_configs
  make_cgroups
  modprobe -qa br_netfilter overlay 2>/dev/null || true
  (
    join_cgroups "$BASHPID"
    exec setsid unshare --mount --net --pid --uts --ipc --fork --propagation slave \
      "$testbed/cluster/node.sh" init {lock_fd}>&- </dev/null >"$state/log/node.log" 2>&1
  ) &
  until [[ -e $state/init ]]; do
    ((SECONDS < until)) || die "the node didn't start: $(tail -3 "$state/log/node.log")"
    sleep 0.05
  done
  say "node created"
}

# One wire between the host and the node. The node has no way beyond the host's end: the only other route is
# that of the Services' addresses, which kube-proxy rewrites before they get anywhere.
# Nor do clients of a node that died reach beyond the host: without the wire its addresses are unreachable.
make_link() {
  local pid
  ip route replace unreachable "$node_network" metric 65535
  pid=$(node_pid)
  ip link show "$link" >/dev/null 2>&1 && return
  ip link add "$link" type veth peer name uplink netns "/proc/$pid/ns/net"
  ip address add "$host_address/24" dev "$link"
  ip link set "$link" up
  nsenter --target "$pid" --net ip address add "$node_address/24" dev uplink
  nsenter --target "$pid" --net ip link set uplink up
  nsenter --target "$pid" --net ip route add "$service_subnet" dev uplink
}

remove_all() {
  local pid until=$((SECONDS + 10))
  ! pid=$(node_pid) || kill -9 "$pid"
  remove_cgroups
  # The interface goes with the node's network namespace, a little later than its last process.
  ip link delete "$link" 2>/dev/null || true
  # All mounts were the node's. If one is seen from here even so, deleting must not go through it.
  ! grep -q " $state/" /proc/mounts || die "something is mounted below $state"
  rm -rf --one-file-system "$state"
  rmdir --ignore-fail-on-non-empty /var/lib/kubelet /var/lib/cni 2>/dev/null || true
  while ip link show "$link" >/dev/null 2>&1 && ((SECONDS < until)); do sleep 0.1; done
  ip route delete unreachable "$node_network" 2>/dev/null || true
}

import() {
  # The socket outlives a machine that was switched off. (Also run inside of the node, where the host's pids say nothing.)
  timeout 10 ctr --address "$containerd_socket" version >/dev/null 2>&1 || return 0
  local archive name stamp mark
  lock import
  mkdir -p "$container_store/imported"
  for archive in "$cache"/images/*.tar; do
    name=$(basename "$archive" .tar)
    stamp=$(cat "$cache/images/$name.stamp" 2>/dev/null) || continue
    mark=$container_store/imported/$name
    [[ $(cat "$mark" 2>/dev/null) != "$stamp" ]] || continue
    ctr --address "$containerd_socket" --namespace k8s.io images import "$archive" >/dev/null
    echo "$stamp" >"$mark"
    say "image $name imported"
  done
}

apply_addons() {
  sed -e "s|IMAGE@|$node_image|; s|DNS@|$dns_service|; s|VOLUMES@|$state/volumes|" "$testbed/cluster/addons.yaml" |
    kubectl apply -f - >/dev/null
}

wait_ready() {
  local until=$((SECONDS + 60))
  until kubectl get node "$node" >/dev/null 2>&1; do
    ((SECONDS < until)) || die "the kubelet doesn't register; its log is $state/log/kubelet.log"
    sleep 0.2
  done
  kubectl label --overwrite node "$node" node-role.kubernetes.io/control-plane= >/dev/null
  kubectl wait --for=condition=Ready "node/$node" --timeout=60s >/dev/null
  say "node ready"
  kubectl -n kube-system rollout status deployment/coredns --timeout=60s >/dev/null
  kubectl -n local-path-storage rollout status deployment/local-path-provisioner --timeout=60s >/dev/null
  say "cluster ready"
}

up() {
  "$testbed/install.sh" cluster
  # All of one build: programs of different versions make no cluster.
  KUBEBUILDER_ASSETS='' "$testbed/programs.sh" kube-apiserver etcd kubectl kubelet kube-controller-manager kube-scheduler kube-proxy >/dev/null
  "$testbed/images.sh" node
  lock cluster
  node_pid >/dev/null || make_node
  make_link
  inside start
  apply_addons
  wait_ready
  echo "export KUBECONFIG=$kubeconfig"
}

status() {
  node_pid >/dev/null || { echo "down"; exit 3; }
  inside status
  kubectl get --raw /readyz >/dev/null 2>&1 || { echo "the API server isn't ready"; exit 1; }
  kubectl get nodes
  echo "export KUBECONFIG=$kubeconfig"
}

# Docker users have all of this from kind. Untested where this was written, as that had no docker.
with_kind() {
  case $1 in
    up)
      mkdir -p "$state"
      kind get clusters 2>/dev/null | grep -qx "$cluster" || kind create cluster --config "$kind_config" --kubeconfig "$kubeconfig"
      echo "export KUBECONFIG=$kubeconfig"
      ;;
    down) kind delete cluster --name "$cluster" && rm -rf --one-file-system "$state" ;;
    status) kubectl get nodes ;;
    import) ;; # images.sh loads them
    *) die "kind's cluster can't $1" ;;
  esac
}

(($#)) || die "usage: cluster.sh up|down|status|import|stop <program>"
if have_docker; then
  command -v kind >/dev/null || die "docker is here and kind isn't: install kind, or set PGTIER_DOCKER=0"
  with_kind "$@"
  exit
fi
case $1 in
  up) up ;;
  down)
    lock cluster
    remove_all
    say "cluster is down"
    ;;
  status) status ;;
  import) import ;;
  stop) inside stop "${2:?which program?}" ;;
  *) die "no command '$1'" ;;
esac
