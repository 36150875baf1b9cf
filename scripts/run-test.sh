#!/usr/bin/env bash
# go test -exec run-test.sh runs the program of a package's tests. Tests of hosts with Docker have
# deadlines and mostly wait; so they come before those that only compute, which get what is left.
set -euo pipefail

case $1 in
*/e2e.test | */lab.test | */demo.test | */bench.test) exec "$@" ;;
*) exec nice "$@" ;;
esac
