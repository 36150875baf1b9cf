#!/usr/bin/env bash
# fuzz.sh TIME runs every fuzz target of the repository for TIME (as in 20s).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

while IFS=: read -r file _ line; do
	target=${line#func }
	target=${target%%(*}
	echo "== $(dirname "$file") $target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-20s}" "./$(dirname "$file")"
done < <(grep -rn --include='*_test.go' '^func Fuzz' . | sed 's|^\./||')
