#!/usr/bin/env bash
# test-long.sh SEEDS SIM runs what takes longer than make test may, some 45 minutes on two
# cores: more seeds, longer storms and attacks on real hosts, and the engines of later Debian
# releases. All of it runs, whatever fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

failed=0
make sim SEEDS="$1" SIM="$2" || failed=1
WEFT_LAB_REQUIRED=1 WEFT_STORM_KILLS=306 WEFT_ATTACK_LASTS=15s \
	go test ./e2e -count=1 -timeout 45m -v -run 'Storm|StrangerAttacks' || failed=1
WEFT_REPAIRS=300 go test ./datapath/linux -count=1 -timeout 10m -v -run WhateverIsDeleted || failed=1
make test-engines || failed=1
exit "$failed"
