# shellcheck shell=bash disable=SC2034
# What a cluster is made of: the networks of kind-config.yaml, the addresses derived from them, the folders.
# Sourced after lib.sh, both outside of the node and inside of it.
# shellcheck disable=SC2154  # root and cache are lib.sh's

kind_config=$root/kind-config.yaml

# kind_value <key>: the scalar of that key, which occurs once in the file; there is no YAML parser on a bare Debian.
kind_value() { sed -nE "s/^ *$1: *['\"]?([^'\"#]*[^'\"# ])['\"]? *(#.*)?$/\1/p" "$kind_config" | head -1; }

# kind_map <key>: the top-level map of that key as a=b,c=d; empty for {}.
kind_map() {
  awk -v key="$1:" '
    /^[^ #]/ { inside = ($1 == key); next }
    inside && /^ +[^ #]/ { gsub(/[ "\047]/, ""); sub(/#.*/, ""); sub(/:/, "="); printf "%s%s", sep, $0; sep = "," }
  ' "$kind_config"
}

# nth_address <subnet> <n>: the n-th address of a subnet, by its last octet.
nth_address() { local net=${1%/*}; echo "${net%.*}.$((${net##*.} + $2))"; }

cluster=$(kind_value name)
node=$cluster-control-plane # as kind names it
pod_subnet=$(kind_value podSubnet)
service_subnet=$(kind_value serviceSubnet)
api_port=$(kind_value apiServerPort)
feature_gates=$(kind_map featureGates)
runtime_config=$(kind_map runtimeConfig)
api_service=$(nth_address "$service_subnet" 1)
dns_service=$(nth_address "$service_subnet" 10)

# The veth pair between the host and the node.
link=$cluster-node
node_network=10.200.0.0/24
node_address=10.200.0.1
host_address=10.200.0.2

# State lives as long as the cluster; the containers' images stay in the cache.
# With kind it is a kubeconfig only, and needs no root.
if ((EUID)); then state=$cache/state; else state=/var/lib/$cluster-testbed; fi
state=${PGTIER_STATE:-$state}
kubeconfig=$state/kubeconfig
container_store=$cache/containerd
containerd_socket=$state/containerd.sock
cgroup=$cluster-testbed

node_image=localhost/pgtier-testbed/node:1
