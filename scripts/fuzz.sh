#!/usr/bin/env bash
# fuzz.sh TIME runs every fuzz target of the repository for TIME, as in 20s, or so many
# times, as in 2000x. Inputs that fail are kept in the package's testdata/fuzz, which go test runs from then on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$(go env GOCACHE)/fuzz/weft
while read -r package; do
	go test -c -fuzz . -o "$work/fuzz.test" "./$package" # once, for all its targets
	mapfile -t targets < <(sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' "$package"/*_test.go)
	for target in "${targets[@]}"; do
		echo "== $package $target"
		(cd "$package" && "$work/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${1:-20s}" -test.fuzzcachedir "$cache/$package" 2>&1 | sed '/^fuzz: elapsed/d; /^PASS$/d')
	done
done < <(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sed 's|^\./||' | sort -u)
