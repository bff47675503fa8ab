#!/usr/bin/env bash
# rootfs.sh 17|15 [--present]   Prints the path of a root file system with that Postgres (and, with 17, the extensions and
# PgBouncer), for tests that run servers as local processes. Made once, kept in the cache; with --present it has to be there.
set -euo pipefail
# shellcheck source=testbed/lib.sh
. "$(dirname "$0")/lib.sh"

major=${1:-}
case $major in
  17) suite=trixie packages=postgresql-17,postgresql-17-timescaledb,postgresql-17-pgvector,postgresql-17-cron,pgbouncer ;;
  15) suite=bookworm packages=postgresql-15 ;;
  *) die "usage: rootfs.sh 17|15" ;;
esac

# The same fixed ids as in the images. In a hook, $1 is the new root.
# shellcheck disable=SC2016
users='groupadd -R "$1" -g 999 postgres; useradd -R "$1" -u 999 -g 999 -M -d /var/lib/postgresql -s /bin/bash postgres'
# shellcheck disable=SC2016
no_cluster='mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"'
options=(--variant=minbase --skip=output/dev --dpkgopt=force-unsafe-io
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
  --dpkgopt='path-exclude=/usr/share/locale/*'
  --essential-hook="$users" --essential-hook="$no_cluster" --include="$packages")

stamp=$(printf '%s\n' "$suite" "${options[@]}" | sha256sum | cut -c1-16)
target=$cache/rootfs/$major-$stamp
if [[ ! -d $target && ${2:-} == --present ]]; then die "no root file system of Postgres $major: testbed/rootfs.sh $major makes it"; fi
if [[ ! -d $target ]]; then
  lock "rootfs-$major"
  if [[ ! -d $target ]]; then
    "$testbed/install.sh" rootfs
    mkdir -p "$cache/rootfs"
    rm -rf --one-file-system "$cache/rootfs/$major"-* # older ones, and one cut short
    if ! mmdebstrap "${options[@]}" "$suite" "$target.new" >"$cache/rootfs/$major.log" 2>&1; then
      tail -20 "$cache/rootfs/$major.log" >&2
      die "mmdebstrap failed; its log is $cache/rootfs/$major.log"
    fi
    # Mount points that run-in-rootfs.sh binds to; the sockets' folder is the server's.
    install -d "$target.new"/{proc,dev,sys,tmp}
    install -d -o 999 -g 999 "$target.new/run/postgresql"
    mv "$target.new" "$target"
    say "root file system of Postgres $major made"
  fi
fi
echo "$target"
