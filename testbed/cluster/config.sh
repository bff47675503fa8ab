# shellcheck shell=bash disable=SC2154
# The configuration files of the node's programs. Sourced after settings.sh.

write_configs() {
  mkdir -p "$state/config/cni"
  containerd_config '' >"$state/config/containerd.toml"
  # Without the CRI: to empty the store of an earlier cluster's containers before the kubelet sees them.
  containerd_config '"io.containerd.grpc.v1.cri"' >"$state/config/containerd-purge.toml"
  cni_config >"$state/config/cni/10-$cluster.conflist"
  kubelet_config >"$state/config/kubelet.yaml"
  proxy_config >"$state/config/proxy.yaml"
  : >"$state/config/resolv.conf" # pods have the cluster's DNS, which has nobody above it
}

# restrict_oom_score_adj: without CAP_SYS_RESOURCE nobody may lower a score, and every sandbox would fail.
containerd_config() {
  cat <<EOF
version = 2
root = "$container_store"
state = "/run/containerd"
disabled_plugins = [$1]
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$node_image"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/config/cni"
EOF
}

# No masquerading: there is nothing outside that pods should reach.
cni_config() {
  cat <<EOF
{
  "cniVersion": "1.0.0",
  "name": "$cluster",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "/run/cni",
        "ranges": [[{"subnet": "$pod_subnet"}]], "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
EOF
}

gates_yaml() { # the same gates as a JSON map, which is YAML too
  local pairs=${feature_gates//=/: }
  echo "{${pairs//,/, }}"
}

kubelet_config() {
  cat <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
containerRuntimeEndpoint: unix://$containerd_socket
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $state/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $state/pki/kubelet.crt
tlsPrivateKeyFile: $state/pki/kubelet.key
clusterDNS: [$dns_service]
clusterDomain: cluster.local
resolvConf: $state/config/resolv.conf
volumePluginDir: /var/lib/kubelet/volume-plugins
failSwapOn: false
maxPods: 110
kubeAPIQPS: 100
kubeAPIBurst: 200
eventRecordQPS: 50
eventBurst: 100
registryPullQPS: 0
serializeImagePulls: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
# Images come from archives: one that was collected would not come back by itself.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
featureGates: $(gates_yaml)
EOF
}

proxy_config() {
  cat <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $pod_subnet
hostnameOverride: $node
clientConnection: {kubeconfig: $state/pki/proxy.kubeconfig}
conntrack: {maxPerCore: 0}
featureGates: $(gates_yaml)
EOF
}
