#!/usr/bin/env bash
# go test -exec run-test.sh runs the program of a package's tests. Tests of hosts with Docker have
# deadlines and mostly wait; so they come before those that only compute, which get what is left.
set -euo pipefail

case $1 in
*/e2e.test | */lab.test | */demo.test | */bench.test) exec "$@" ;;
esac

# Where the kernel groups processes by sessions (sched(7), autogroup), nice only counts within one, and each
# dockerd of the lab has its own. So these get one too, and it is the group that is nice. What a shell starts with
# & ignores SIGINT and SIGQUIT, and so would all that the tests start.
# shellcheck disable=SC2016 # the inner shell expands it
setsid env --default-signal=INT,QUIT nice sh -c '{ echo 19 >/proc/self/autogroup; } 2>/dev/null; exec "$@"' sh "$@" &
program=$!
trap 'kill "$program" 2>/dev/null || true' EXIT
status=0
wait "$program" || status=$?
trap - EXIT # its number may be another's now
exit "$status"
