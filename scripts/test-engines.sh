#!/usr/bin/env bash
# Runs end-to-end tests on the Docker Engines of other Debian releases:
#
#	scripts/test-engines.sh 'DualStack|Restarts' trixie sid
#
# All of them run, whatever fails. A release whose engine cannot be fetched or unpacked is passed
# over, and named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tests=$1
shift
missed=()
failed=0
for release in "$@"; do
	engine=$PWD/build/engine/$release
	if ! scripts/engine.sh "$release" "$engine"; then
		missed+=("$release")
		continue
	fi
	echo "test-engines: $("$engine/usr/sbin/dockerd" --version)"
	WEFT_LAB_REQUIRED=1 WEFT_ENGINE=$engine go test ./e2e -count=1 -timeout 25m -run "$tests" || failed=1
done
((${#missed[@]} == 0)) || echo "test-engines: NOT tested, their engine could not be fetched: ${missed[*]}" >&2
exit "$failed"
