#!/usr/bin/env bash
# run-in-rootfs.sh <rootfs> <workdir> <command>...   Runs a command inside a root file system of rootfs.sh as the
# postgres user, in the host's network, with the work folder at the same absolute path. Every step execs the
# next, so that the pid that the caller started is the command's own, and signals reach it.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
  (($# >= 3)) || { echo "usage: run-in-rootfs.sh <rootfs> <workdir> <command>..." >&2; exit 2; }
  # A mount namespace of its own: the binds end with the command, and nobody else sees them.
  exec unshare --mount --propagation private "$0" --inside "$@"
fi

rootfs=$(realpath "$2")
work=$(realpath "$3")
shift 3
# Binding the root on itself makes a mount to hang the others under. The tmpfs takes the mount point of a work
# folder under /tmp, so that none is left in the cached tree.
mount --bind "$rootfs" "$rootfs"
mount -t proc proc "$rootfs/proc"
mount --rbind /dev "$rootfs/dev" # with /dev/shm, which dynamic_shared_memory_type=posix needs
mount -t tmpfs -o mode=1777 tmp "$rootfs/tmp"
mkdir -p "$rootfs$work"
mount --bind "$work" "$rootfs$work"

path=$(echo "$rootfs"/usr/lib/postgresql/*/bin)
path=${path#"$rootfs"}:/usr/sbin:/usr/bin:/sbin:/bin
# chroot(1) and setpriv(1) both exec; no shell stays between.
exec chroot "$rootfs" /usr/bin/setpriv --reuid=999 --regid=999 --clear-groups \
  /usr/bin/env -C "$work" -u LD_LIBRARY_PATH PATH="$path" HOME="$work" LANG=C.UTF-8 PGUSER="${PGUSER:-postgres}" "$@"
