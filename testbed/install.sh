#!/usr/bin/env bash
# install.sh <group>...   Debian packages that the project needs, by group. Fast when all are there.
set -euo pipefail
# shellcheck source=testbed/lib.sh
. "$(dirname "$0")/lib.sh"

declare -A groups=(
  [build]="g++ cmake ninja-build ccache mold libcpprest-dev nlohmann-json3-dev libyaml-cpp-dev libpq-dev
    prometheus-cpp-dev libspdlog-dev libgtest-dev libgmock-dev libcli11-dev libexpected-dev libbenchmark-dev
    libssl-dev clang-format clang-tidy"
  [images]="buildah mmdebstrap ca-certificates"
  [rootfs]="mmdebstrap"
  [cluster]="containerd runc containernetworking-plugins nftables iptables conntrack iproute2 kmod procps
    jq openssl ca-certificates"
  [go]="golang-go ca-certificates"
  [lint]="shellcheck"
)
groups[cluster]+=" ${groups[images]}"

(($#)) || die "usage: install.sh <group>...   groups: ${!groups[*]}"
wanted=()
for group in "$@"; do
  [[ -v groups[$group] ]] || die "no group '$group'; there are: ${!groups[*]}"
  read -ra names -d '' <<<"${groups[$group]}" || true
  wanted+=("${names[@]}")
done

missing=()
for name in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$name")
done
((${#missing[@]})) || exit 0

lock install
say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Services that packages would start (containerd's, say) are not ours to run: the policy below keeps them down.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 0755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get -qq update
apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
say "installed"
