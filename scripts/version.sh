#!/usr/bin/env bash
# Prints the version of this tree: what git calls it, else the newest heading of
# CHANGELOG.md ("## 1.2.3 …").
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

git describe --tags --always --dirty --match 'v*' 2>/dev/null && exit
version=$(sed -n 's/^## \[\{0,1\}\([0-9][^] ]*\).*/\1/p;T;q' CHANGELOG.md 2>/dev/null || true)
echo "${version:-unknown}"
