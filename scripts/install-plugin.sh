#!/usr/bin/env bash
# install-plugin.sh NAME DIR [KEY=VALUE…] creates the managed plugin NAME from DIR
# in the local Docker and enables it. An older one of that name is replaced and,
# where no settings are given, its settings are kept; networks and running
# containers are not touched.
set -euo pipefail

(($# >= 2)) || {
	echo "usage: $0 NAME DIR [KEY=VALUE…]" >&2
	exit 2
}
name=$1 dir=$2
settings=("${@:3}")

if docker plugin inspect "$name" >/dev/null 2>&1; then
	if ((${#settings[@]} == 0)); then
		mapfile -t settings < <(docker plugin inspect -f '{{range .Settings.Env}}{{println .}}{{end}}' "$name" |
			grep '^WEFT_' | grep -v '^WEFT_ROOT=')
	fi
	docker plugin disable -f "$name" >/dev/null 2>&1 || true # it may be disabled already
	docker plugin rm -f "$name" >/dev/null
fi

docker plugin create "$name" "$dir" >/dev/null
if ((${#settings[@]})); then
	docker plugin set "$name" "${settings[@]}"
fi
if ! docker plugin enable "$name" >/dev/null; then
	echo "$name did not start; Docker's log says why: journalctl -u docker | grep plugin=" >&2
	exit 1
fi
echo "$name is enabled"
