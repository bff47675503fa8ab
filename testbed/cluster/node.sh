#!/usr/bin/env bash
# The inside of the node: a set of namespaces (mounts, network, processes, host name) that ends with its first
# process, as a machine does. So nothing of a cluster can outlive it: no process, no mount, no interface.
#   node.sh init       is that first process
#   node.sh start      starts the programs that don't run
#   node.sh status     tells which run; fails when one doesn't
#   node.sh stop <p>   kills one program, for tests of faults; `start` brings it back
set -euo pipefail
# shellcheck source=testbed/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=testbed/cluster/settings.sh
. "$testbed/cluster/settings.sh"

programs=(etcd kube-apiserver containerd kubelet kube-controller-manager kube-scheduler kube-proxy)
running=/run/$cluster # pid and start time of each program, gone with the namespace

# The state and start time of a process: a pid alone may have been given to another one.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
is_zombie() { [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]; }

init() {
  # /proc is the host's still, and so tells our pid there.
  local pid rest
  read -r pid rest </proc/self/stat
  rest=$(started_at "$pid")
  hostname "$node"
  # Mounts made in here propagate among the node's programs and not to the host; those that the host undoes are
  # undone in here, as --propagation slave says.
  mount --make-rshared /
  mount -t proc proc /proc
  mount -t tmpfs run /run
  mkdir -p "$running" /run/etcd
  mount --bind "$state/kubelet" /var/lib/kubelet
  mount --bind "$state/log" /var/log
  mount -t tmpfs cni /var/lib/cni
  ip link set lo up
  sysctl -qw net.ipv4.ip_forward=1
  # Answers between pods of one bridge must pass kube-proxy's rules too; the switch is this namespace's own.
  sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
  echo "$pid $rest" >"$state/init.new"
  mv "$state/init.new" "$state/init"
  # bash reaps what is orphaned in here, shims of a killed containerd for one.
  while :; do
    sleep infinity &
    wait
  done
}

alive() {
  local pid start
  read -r pid start 2>/dev/null <"$running/$1" || return 1
  [[ $(started_at "$pid") == "$start" ]] && ! is_zombie "$pid"
}

launch() { # name, command...
  local name=$1 pid
  shift
  ! alive "$name" || return 0
  setsid "$@" </dev/null >>"$state/log/$name.log" 2>&1 &
  pid=$!
  echo "$pid $(started_at "$pid")" >"$running/$name"
  say "$name started"
}

# wait_for <what> <seconds> <command>...
wait_for() {
  local what=$1 until=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < until)) || die "$what isn't ready; the logs are in $state/log"
    sleep 0.1
  done
}

runtime() { ctr --address "$containerd_socket" --namespace k8s.io "$@"; }

# Containers of an earlier cluster are in the store still. The runtime's CRI part would show them to the kubelet,
# so they go before that part sees them.
purge_containers() {
  [[ -e $container_store/io.containerd.metadata.v1.bolt/meta.db ]] || return 0
  local pid containers
  containerd -c "$state/config/containerd-purge.toml" >"$state/log/containerd-purge.log" 2>&1 &
  pid=$!
  wait_for "containerd's store" 20 runtime version
  mapfile -t containers < <(runtime containers list -q)
  ((!${#containers[@]})) || runtime containers delete "${containers[@]}" 2>/dev/null || true
  kill "$pid"
  wait "$pid" || true
}

start_containerd() {
  alive containerd && return
  [[ -e $running/containerd ]] || purge_containers
  launch containerd containerd -c "$state/config/containerd.toml"
  wait_for containerd 30 runtime version
}

start_control_plane() {
  local pki=$state/pki gates=()
  [[ -z $feature_gates ]] || gates=(--feature-gates="$feature_gates")
  # Nothing of it must survive the machine, so it lies in memory and never syncs.
  launch etcd "$(program etcd)" --name "$node" --data-dir /run/etcd --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
  launch kube-apiserver "$(program kube-apiserver)" --etcd-servers=http://127.0.0.1:2379 \
    --bind-address=0.0.0.0 --secure-port="$api_port" --advertise-address="$node_address" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --service-cluster-ip-range="$service_subnet" --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false \
    --kubelet-preferred-address-types=InternalIP --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" \
    ${runtime_config:+--runtime-config="$runtime_config"} "${gates[@]}"
  wait_for "the API server" 90 "$(program kubectl)" --kubeconfig="$kubeconfig" get --raw /readyz
  launch kube-controller-manager "$(program kube-controller-manager)" --kubeconfig="$pki/controller-manager.kubeconfig" \
    --leader-elect=false --use-service-account-credentials --root-ca-file="$pki/ca.crt" \
    --service-account-private-key-file="$pki/sa.key" --bind-address=127.0.0.1 \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --kube-api-qps=100 --kube-api-burst=200 --profiling=false "${gates[@]}"
  launch kube-scheduler "$(program kube-scheduler)" --kubeconfig="$pki/scheduler.kubeconfig" --leader-elect=false \
    --bind-address=127.0.0.1 --kube-api-qps=100 --kube-api-burst=200 --profiling=false "${gates[@]}"
}

start_node() {
  launch kubelet "$(program kubelet)" --config="$state/config/kubelet.yaml" --kubeconfig="$state/pki/kubelet.kubeconfig" \
    --hostname-override="$node" --node-ip="$node_address"
  launch kube-proxy "$(program kube-proxy)" --config="$state/config/proxy.yaml"
}

start() {
  # The runtime and its images don't need the API server, which takes its time.
  start_containerd &
  local containerd=$!
  start_control_plane
  wait "$containerd"
  "$testbed/cluster.sh" import
  start_node
}

status() {
  local name rc=0
  for name in "${programs[@]}"; do
    if alive "$name"; then echo "$name running"; else echo "$name dead" && rc=1; fi
  done
  return $rc
}

stop() {
  local pid
  alive "$1" || return 0
  read -r pid _ <"$running/$1"
  kill -9 "$pid"
}

"$@"
