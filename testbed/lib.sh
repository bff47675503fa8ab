# shellcheck shell=bash
# What the scripts of the testbed share: the folders, progress lines, and where the programs are.
# Sourced, never run.

testbed=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # used by those who source this
root=${testbed%/*}
cache=${PGTIER_CACHE:-$HOME/.cache/pgtier}

# Scripts call each other: their progress lines count from the start of the first one.
: "${PGTIER_STARTED:=$EPOCHSECONDS}"
export PGTIER_STARTED

# Progress goes to stderr, so that stdout carries only what a caller wants to read.
say() { printf '[%4ss] %s\n' "$((EPOCHSECONDS - PGTIER_STARTED))" "$*" >&2; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# A docker client without a daemon is common: only the daemon's answer counts. PGTIER_DOCKER=0 does without it.
have_docker() { [[ ${PGTIER_DOCKER:-1} != 0 ]] && command -v docker >/dev/null && docker info >/dev/null 2>&1; }

# One run at a time for each kind of work; two of them would write the same files of the cache.
lock_fd=9 # closed in what is to live on, locked or not
lock() {
  mkdir -p "$cache"
  exec {lock_fd}>"$cache/.$1.lock"
  flock -n "$lock_fd" || { say "waiting for another $1 run"; flock "$lock_fd"; }
}

program() { echo "$cache/bin/$1"; }
