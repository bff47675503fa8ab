#!/usr/bin/env bash
# promtool.sh   Prints the path of Prometheus' promtool: the one on the PATH, else Debian's, unpacked into the cache (and
# nothing of it installed).
set -euo pipefail
# shellcheck source=testbed/lib.sh
. "$(dirname "$0")/lib.sh"

if command -v promtool; then exit 0; fi
folder=$cache/promtool
tool=$folder/usr/bin/promtool
if [[ ! -x $tool ]]; then
  lock promtool
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # A package of its own in newer releases, and a part of prometheus in older ones.
  fetch() { (cd "$work" && for name in promtool prometheus; do apt-get -qq download "$name" 2>/dev/null && return 0; done; return 1); }
  if ! fetch; then
    apt-get -qq update
    fetch || die "apt has neither promtool nor prometheus"
  fi
  dpkg-deb -x "$work"/*.deb "$work/root"
  [[ -x $work/root/usr/bin/promtool ]] || die "no promtool in $(cd "$work" && echo ./*.deb)"
  install -D "$work/root/usr/bin/promtool" "$tool"
fi
echo "$tool"
