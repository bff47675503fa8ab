# shellcheck shell=bash
# Base images for buildah on a machine that reaches Debian's packages and no image registry: mmdebstrap makes
# them, and they take the public names, so that the FROM lines of the Dockerfiles resolve to them.
# Sourced by images.sh, after lib.sh.

# shellcheck disable=SC2154  # cache is lib.sh's
open_store() {
  local probe=$cache/probe
  # Its network setup isn't used, and its lock file would lie in the host's /etc/cni.
  printf '[network]\nnetwork_config_dir = "%s"\n' "$cache/buildah-net" >"$cache/buildah.conf"
  export CONTAINERS_CONF=$cache/buildah.conf
  # Plain copies work in any container; overlays don't on top of an overlay, but they are four times as fast.
  driver=vfs
  mkdir -p "$probe"/{lower,upper,work,merged}
  ! mount -t overlay probe -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" "$probe/merged" 2>/dev/null || {
    driver=overlay
    umount "$probe/merged"
  }
  rm -rf --one-file-system "$probe" "$cache/buildah-run"
}

store() { buildah --root "$cache/buildah" --runroot "$cache/buildah-run" --storage-driver "$driver" "$@"; }

# What a build that failed or an older one left.
tidy_store() {
  store rm --all >/dev/null 2>&1 || true
  store rmi --prune >/dev/null 2>&1 || true
}

base_of() { grep -oE 'docker.io/library/debian:[a-z]+-slim' "$1" | head -1; }

# The options that make a base; part of the stamp of what is built on it. The services of packages that are
# installed in an image must not start while it is built.
base_recipe() {
  local suite=${1##*:}
  # shellcheck disable=SC2016  # $1 is the new root, for the hook
  printf '%s\n' --variant=minbase --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d" && chmod 0755 "$1/usr/sbin/policy-rc.d"' \
    "${suite%-slim}"
}

make_base() {
  local tag=$1 stamp tar=$cache/images/base.tar container started=$SECONDS options
  stamp=$(base_recipe "$tag" | sha256sum | cut -c1-16)
  [[ $(store inspect --type image --format '{{index .OCIv1.Config.Labels "pgtier.base"}}' "$tag" 2>/dev/null) == "$stamp" ]] && return
  mapfile -t options < <(base_recipe "$tag")
  mmdebstrap "${options[@]}" "$tar" >"$cache/images/base.log" 2>&1 || die "mmdebstrap failed; its log is $cache/images/base.log"
  container=$(store from scratch)
  store add --quiet "$container" "$tar" / >/dev/null
  store config --label "pgtier.base=$stamp" --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  store commit --quiet --rm "$container" "$tag" >/dev/null
  rm -f "$tar"
  say "base $tag made in $((SECONDS - started)) s"
}
