#!/usr/bin/env bash
# Formatting of everything, shellcheck, and clang-tidy on the C++ files that differ from $BASE (default: the last commit
# of main that is on the remote, else the commit before this one).
set -euo pipefail
cd "$(dirname "$0")/.."
testbed/install.sh build lint

git ls-files '*.cc' '*.h' | xargs clang-format --dry-run --Werror
git ls-files '*.sh' .ci/run images/postgres/pgtier-postgres | xargs shellcheck -x

base=${BASE:-$(git rev-parse --verify --quiet origin/main || git rev-parse HEAD~1)}
cmake --preset dev >/dev/null
git diff --name-only --diff-filter=d "$base" -- '*.cc' | while read -r file; do
  echo "clang-tidy $file"
  # The sources compile in unity builds, so the database has no entry of their own: name the flags.
  clang-tidy --quiet "$file" -- -std=c++20 -I. -Ibuild/dev/sql/include -DPGTIER_VERSION='""' \
    -DPGTIER_SOURCE_DIR='""' -DKYOYU_LOAD_PROGRAM='""' 2>/dev/null
done
echo "lint: nothing to complain about"
