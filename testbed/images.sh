#!/usr/bin/env bash
# images.sh [name...]   Builds the images (all of them without a name) from the Dockerfiles that Docker users
# build, with docker where its daemon answers and with buildah elsewhere, and hands them to the cluster if one is
# up. An image whose Dockerfile and copied files are unchanged is left alone.
set -euo pipefail
# shellcheck source=testbed/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=testbed/images/base.sh
. "$testbed/images/base.sh"

# name: tag, Dockerfile, context. The last is the testbed's own cluster's, and no concern of kind's.
declare -A images=(
  [pgtier]="localhost/pgtier/pgtier:dev $root/images/pgtier.Dockerfile $root"
  [postgres]="localhost/pgtier/postgres:17 $root/images/postgres.Dockerfile $root"
  [pgbouncer]="localhost/pgtier/pgbouncer:1 $root/images/pgbouncer.Dockerfile $root"
  [prometheus]="localhost/pgtier/prometheus:1 $root/images/prometheus.Dockerfile $root"
  [node]="localhost/pgtier-testbed/node:1 $testbed/images/node.Dockerfile $cache/bin"
)
all=(node postgres pgbouncer prometheus pgtier)

with_docker() {
  local name tag file context
  for name in "$@"; do
    [[ $name != node ]] || continue
    read -r tag file context <<<"${images[$name]}"
    docker build --quiet -t "$tag" -f "$file" "$context" >/dev/null
    say "$tag built"
    if kind get clusters 2>/dev/null | grep -qx pgtier; then kind load docker-image --name pgtier "$tag"; fi
  done
}

# What the build reads: the Dockerfile, the base, and the files named by COPY lines; not the sources, as binaries
# are compiled already where buildah builds.
stamp_of() {
  local file=$1 context=$2 source
  {
    cat "$file"
    base_recipe "$(base_of "$file")"
    awk '$1 == "COPY" { for (i = 2; i < NF; i++) if ($i ~ /^--from/) next; else if ($i !~ /^--/ && $i != ".") print $i }' "$file" |
      while read -r source; do
        find "$context/$source" -type f -printf '%P %m ' -exec sha256sum {} \; | sed "s|$context/||" | sort
      done
  } | sha256sum | cut -c1-16
}

with_buildah() {
  local name=$1 tag file context stamp archive=$cache/images/$1.tar started=$SECONDS
  read -r tag file context <<<"${images[$name]}"
  [[ $name != node ]] || KUBEBUILDER_ASSETS='' "$testbed/programs.sh" coredns local-path-provisioner >/dev/null
  if [[ $name == pgtier && ! -x $root/build/image/bin/pgtier-operator ]]; then
    say "$tag skipped: build/image/bin/pgtier-operator isn't built yet"
    return
  fi
  stamp=$(stamp_of "$file" "$context")
  [[ -e $archive && $(cat "$cache/images/$name.stamp" 2>/dev/null) == "$stamp" ]] && return
  if [[ -z $driver ]]; then
    "$testbed/install.sh" images
    open_store
    tidy_store
  fi
  make_base "$(base_of "$file")"
  # Layers are kept: after a change of a script or of the code, packages aren't installed again.
  if ! store build --isolation chroot --pull-never --layers --build-arg BINARIES=prebuilt \
    -t "$tag" -f "$file" "$context" >"$cache/images/$name.log" 2>&1; then
    tail -20 "$cache/images/$name.log" >&2
    die "$tag: the build failed; its log is $cache/images/$name.log"
  fi
  rm -f "$archive"
  store push --quiet --disable-compression "$tag" "oci-archive:$archive:$tag" >/dev/null
  echo "$stamp" >"$cache/images/$name.stamp"
  say "$tag built in $((SECONDS - started)) s"
}

(($#)) || set -- "${all[@]}"
for name in "$@"; do
  [[ -v images[$name] ]] || die "no image '$name'; there are: ${all[*]}"
done
if have_docker; then
  with_docker "$@"
  exit
fi
# In a mount namespace of its own: what buildah mounts and leaves ends with this script.
[[ ${PGTIER_IMAGES_INSIDE:-} ]] || PGTIER_IMAGES_INSIDE=1 exec unshare --mount --propagation slave "$0" "$@"
mkdir -p "$cache/images"
lock images
driver=
for name in "$@"; do with_buildah "$name"; done
[[ -z $driver ]] || tidy_store
"$testbed/cluster.sh" import
