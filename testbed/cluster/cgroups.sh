# shellcheck shell=bash disable=SC2154
# The node's cgroups: every process of a cluster is in them, pods' and programs', whatever killed its parent.
# Sourced after settings.sh.

hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | sort -u; }

make_cgroups() {
  local mount dir file
  for mount in $(hierarchies); do
    # Version 2 hands controllers down on request; the kubelet asks for itself below its own root.
    for dir in "$mount" "$mount/$cgroup"; do
      mkdir -p "$mount/$cgroup"
      for file in cpu memory pids cpuset io; do
        echo "+$file" >"$dir/cgroup.subtree_control"
      done 2>/dev/null || true
    done
    for dir in "$mount/$cgroup" "$mount/$cgroup/programs"; do
      mkdir -p "$dir"
      # A cpuset of version 1 starts empty, and takes nobody in while it is.
      for file in cpuset.cpus cpuset.mems; do
        [[ ! -e $dir/$file || -n $(cat "$dir/$file") ]] || cat "$dir/../$file" >"$dir/$file"
      done
    done
  done
}

join_cgroups() {
  local mount
  for mount in $(hierarchies); do echo "$1" >"$mount/$cgroup/programs/cgroup.procs"; done
}

members() {
  local mount
  for mount in $(hierarchies); do
    [[ ! -d $mount/$cgroup ]] || find "$mount/$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null
  done | grep -vx 0 | sort -un || true
}

# Kills whoever is in there and removes the groups; both take the kernel a moment.
remove_cgroups() {
  local mount pids until=$((SECONDS + 30))
  while mapfile -t pids < <(members) && ((${#pids[@]})); do
    kill -9 "${pids[@]}" 2>/dev/null || true
    ((SECONDS < until)) || die "processes ${pids[*]} don't die"
    sleep 0.1
  done
  for mount in $(hierarchies); do
    while [[ -d $mount/$cgroup ]]; do
      find "$mount/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
      ((SECONDS < until)) || die "$mount/$cgroup can't be removed"
      [[ ! -d $mount/$cgroup ]] || sleep 0.1
    done
  done
}
