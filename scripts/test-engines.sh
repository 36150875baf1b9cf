#!/usr/bin/env bash
# Runs end-to-end tests on several Docker Engines, on that of this machine (installed) and on those of
# other Debian releases:
#
#	scripts/test-engines.sh 'DualStack|Restarts' installed trixie sid
#
# All of them run, whatever fails. A release whose engine cannot be fetched or unpacked is passed over,
# and named. When all tests (.) ran on all engines, docs/engines.md gets the results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tests=$1
shift
missed=()
runs=()
failed=0
mkdir -p build/engine
for release in "$@"; do
	engine=
	dockerd=dockerd
	if [[ $release != installed ]]; then
		engine=$PWD/build/engine/$release
		dockerd=$engine/usr/sbin/dockerd
		if ! scripts/engine.sh "$release" "$engine"; then
			missed+=("$release")
			continue
		fi
	fi
	version=$("$dockerd" --version)
	echo "test-engines: $version"
	version=${version#*version }
	output=build/engine/$release.txt
	WEFT_LAB_REQUIRED=1 WEFT_LONG=1 WEFT_ENGINE=$engine go test ./e2e -v -count=1 -timeout 30m -run "$tests" 2>&1 | tee "$output" || failed=1
	runs+=("${version%%[+,]*} ($release)=$output")
done
if ((${#missed[@]})); then
	echo "test-engines: NOT tested, their engine could not be fetched: ${missed[*]}" >&2
elif [[ $tests == . ]] && (($# > 1)); then
	build/lab engines --commit "$(scripts/version.sh)" --document docs/engines.md "${runs[@]}"
	echo "test-engines: the results are in docs/engines.md"
fi
exit "$failed"
