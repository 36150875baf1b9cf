#!/usr/bin/env bash
# test-long.sh SEEDS SIM runs what takes longer than make test may, some 45 minutes on two
# cores: more seeds, longer storms and attacks on real hosts, and the engines of later Debian
# releases. All of it runs, whatever fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

failed=0
make sim SEEDS="$1" SIM="$2" || failed=1
WEFT_LAB_REQUIRED=1 WEFT_LONG=1 WEFT_STORM_KILLS=306 WEFT_ATTACK_LASTS=15s \
	go test ./e2e -count=1 -timeout 45m -v -run 'Storm|StrangerAttacks|Chaos|HostsKeepTheirConnections|ALostInterface|MarathonKeeps|Ansible|StaticAddress|DisabledPlugin|SwarmScope|RemovedOwner' || failed=1
WEFT_LAB_REQUIRED=1 WEFT_LONG=1 go test ./lab/bench -count=1 -timeout 10m -run Bench || failed=1
WEFT_LONG=1 go test ./packaging -count=1 -timeout 10m -run Ansible || failed=1
WEFT_REPAIRS=300 go test ./datapath/linux -count=1 -timeout 10m -v -run WhateverIsDeleted || failed=1
# What differs between engines: the plugin's life, both protocols, restarts, IPv6, what inspect shows,
# names beside Docker's own. make test-engines runs all.
engines='ContainersReachEachOther|DockerRestarts|AgentRestarts|DualStack|IPv6Only|LookTheSame|ConfigFrom|EgressAndPublished|Static|NetworkAppears|Names|TheFirstQuery'
make test-engines ENGINES="trixie sid" ENGINE_TESTS="$engines" || failed=1
exit "$failed"
