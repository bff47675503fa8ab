#!/usr/bin/env bash
# programs.sh [name...]   Builds the cluster's programs from their Go modules into the cache; all of them
# without a name. A program that is there in the right version is left alone. Prints their folder.
# Where KUBEBUILDER_ASSETS (envtest's convention) has all that are named, those are taken instead.
set -euo pipefail
# shellcheck source=testbed/lib.sh
. "$(dirname "$0")/lib.sh"

# name: the module's folder under programs/, the package, the version, and linker flags that name the version.
component=k8s.io/component-base/version
kube="v1.36.3 -X $component.gitVersion=v1.36.3 -X $component.gitMajor=1 -X $component.gitMinor=36"
declare -A recipes=(
  [kube-apiserver]="kubernetes k8s.io/kubernetes/cmd/kube-apiserver $kube"
  [kube-controller-manager]="kubernetes k8s.io/kubernetes/cmd/kube-controller-manager $kube"
  [kube-scheduler]="kubernetes k8s.io/kubernetes/cmd/kube-scheduler $kube"
  [kubelet]="kubernetes k8s.io/kubernetes/cmd/kubelet $kube"
  [kube-proxy]="kubernetes k8s.io/kubernetes/cmd/kube-proxy $kube"
  [kubectl]="kubernetes k8s.io/kubernetes/cmd/kubectl $kube"
  [etcd]="etcd go.etcd.io/etcd/server/v3 v3.6.5"
  [coredns]="coredns . v1.12.4"
  [local-path-provisioner]="local-path-provisioner github.com/rancher/local-path-provisioner v0.0.30"
  [helm]="helm helm.sh/helm/v3/cmd/helm v3.19.2 -X helm.sh/helm/v3/internal/version.version=v3.19.2"
)
# The order of a full build: what integration tests need comes first.
all=(kube-apiserver etcd kubectl kubelet kube-controller-manager kube-scheduler kube-proxy coredns
  local-path-provisioner helm)

# The Go command. Debian's own is too old for these modules and knows no toolchain switch, so there the
# toolchain itself comes as a module, which carries no execute bits.
find_go() {
  local go
  for go in "$(command -v go || true)" /usr/local/go/bin/go; do
    if [[ -n $go && -x $go ]]; then
      GOTOOLCHAIN=auto "$go" -C "$testbed/programs/kubernetes" version >/dev/null 2>&1 && echo "$go" && return
    fi
  done
  command -v go >/dev/null || "$testbed/install.sh" go
  local arch dir
  arch=$(dpkg --print-architecture)
  dir=$(cd / && go mod download -json "golang.org/toolchain@v0.0.1-go1.26.0.linux-$arch" | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
  [[ -d $dir ]] || die "no Go, and its toolchain can't be downloaded"
  chmod -R u+x "$dir/bin" "$dir/pkg/tool"
  echo "$dir/bin/go"
}

# What a cached program was built from: any change of it builds anew.
stamp_of() {
  local recipe=$1 module=${1%% *}
  { echo "$recipe" && cat "$testbed/programs/$module/"*; } | sha256sum | cut -c1-16
}

build() {
  local name=$1 stamp=$2 module package version flags started=$SECONDS
  read -r module package version flags <<<"${recipes[$name]}"
  cd "$testbed/programs/$module"
  # To a name of its own first: a build that is cut short leaves no half program.
  CGO_ENABLED=0 GOFLAGS='' GOTOOLCHAIN=auto "$go" build -mod=readonly -trimpath -buildvcs=false \
    -ldflags "-s -w $flags" -o "$bin/.$name.new" "$package"
  mv -f "$bin/.$name.new" "$bin/$name"
  echo "$stamp" >"$bin/.$name.stamp"
  say "$name $version built in $((SECONDS - started)) s"
}

in_assets() {
  local name
  [[ ${KUBEBUILDER_ASSETS:-} ]] || return 1
  for name in "$@"; do [[ -x $KUBEBUILDER_ASSETS/$name ]] || return 1; done
  echo "$KUBEBUILDER_ASSETS"
}

bin=$cache/bin
mkdir -p "$bin"
(($#)) || set -- "${all[@]}"
! in_assets "$@" || exit 0
go=
for name in "$@"; do
  [[ -v recipes[$name] ]] || die "no program '$name'; there are: ${all[*]}"
  stamp=$(stamp_of "${recipes[$name]}")
  [[ -x $bin/$name && $(cat "$bin/.$name.stamp" 2>/dev/null) == "$stamp" ]] && continue
  if [[ -z $go ]]; then
    lock programs
    go=$(find_go)
  fi
  # Another run may have built it while this one waited.
  [[ $(cat "$bin/.$name.stamp" 2>/dev/null) == "$stamp" ]] || build "$name" "$stamp"
done
echo "$bin"
