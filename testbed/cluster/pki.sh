# shellcheck shell=bash disable=SC2154
# The cluster's certificates and the kubeconfigs that carry them. Sourced after settings.sh.

certificate() { # name, subject, alternative names
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out "$1.crt" \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3") 2>/dev/null
  rm "$1.csr"
}

make_certificates() {
  local names
  mkdir -p "$state/pki"
  (
    cd "$state/pki" || exit
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$cluster-ca" -keyout ca.key -out ca.crt 2>/dev/null
    openssl genrsa -out sa.key 2048 2>/dev/null
    openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
    names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
    certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$api_service,IP:$node_address,$names"
    certificate admin "/O=system:masters/CN=kubernetes-admin" DNS:admin
    certificate controller-manager /CN=system:kube-controller-manager DNS:controller-manager
    certificate scheduler /CN=system:kube-scheduler DNS:scheduler
    certificate proxy /CN=system:kube-proxy DNS:proxy
    certificate kubelet "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:127.0.0.1,IP:$node_address"
  )
  local name
  for name in controller-manager scheduler proxy kubelet; do
    write_kubeconfig "$name" 127.0.0.1 "$state/pki/$name.kubeconfig"
  done
  # The one for people and tests goes by the address that the host reaches.
  write_kubeconfig admin "$node_address" "$kubeconfig"
}

embedded() { base64 -w0 "$state/pki/$1"; }

write_kubeconfig() { # certificate, server, file
  cat >"$3" <<EOF
apiVersion: v1
kind: Config
clusters:
  - name: $cluster
    cluster: {server: "https://$2:$api_port", certificate-authority-data: $(embedded ca.crt)}
users:
  - name: $1
    user: {client-certificate-data: $(embedded "$1.crt"), client-key-data: $(embedded "$1.key")}
contexts:
  - name: $cluster
    context: {cluster: $cluster, user: $1}
current-context: $cluster
EOF
  chmod 0600 "$3"
}
