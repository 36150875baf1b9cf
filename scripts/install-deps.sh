#!/usr/bin/env bash
# Installs the Debian packages that the demo and the tests need and that are
# missing, with --emulation those of make test-kernels. Starts no service: the lab brings
# its own Docker daemons up and down.
set -euo pipefail

# command=package, or package alone where it brings no command of its own. Docker
# by another packager is as good.
wanted=(
	dockerd=docker.io               # dockerd, containerd, runc of the lab's hosts
	docker-compose=docker-compose   # examples/compose
	docker-registry=docker-registry # docker plugin push and install, on loopback
	dig=bind9-dnsutils              # clients for the tests of names: this one,
	node=nodejs                     # Node.js's resolver,
	musl-gcc=musl-tools             # and musl's
	dnsmasq=dnsmasq-base            # forwards names to an agent
	haproxy=haproxy                 # balances over containers, on a host without Docker
	keepalived=keepalived           # a virtual address,
	arping=iputils-arping           # probes and
	iperf=iperf                     # multicast between containers
	avahi-daemon=avahi-daemon       # announces a host by mDNS,
	mdns-scan=mdns-scan             # and this finds it
	busybox-static                  # the whole content of the test images
	ip=iproute2                     # links between the lab's hosts
	nft=nftables
	iptables=iptables
	patchelf=patchelf # runs the engines of other releases, scripts/engine.sh
	ping=iputils-ping
	ps=procps
	shellcheck=shellcheck
	git=git
	ca-certificates
)

# Emulated machines, for make test-kernels.
if [[ ${1:-} == --emulation ]]; then
	wanted=(
		qemu-system-x86_64=qemu-system-x86
		qemu-img=qemu-utils
		mmdebstrap=mmdebstrap
		mkfs.ext4=e2fsprogs
		busybox=busybox-static
		xz=xz-utils
	)
fi

present() {
	local command=${1%%=*} package=${1#*=}
	if [[ $1 == *=* ]]; then
		PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null
	else
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]]
	fi
}

missing=()
for want in "${wanted[@]}"; do
	present "$want" || missing+=("${want#*=}")
done
# From Debian 13 on, the docker command has a package of its own.
if ! present docker=docker-cli && apt-cache show docker-cli >/dev/null 2>&1; then
	missing+=(docker-cli)
fi
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
	echo "install-deps: no apt-get here; please install: ${missing[*]}" >&2
	exit 1
fi
if ((EUID != 0)); then
	echo "install-deps: not root; please run: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi

# The packages would start a dockerd and a registry for the whole machine.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi

echo "install-deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
apt() { apt-get -o DPkg::Lock::Timeout=300 -y --no-install-recommends "$@" >>"$log" 2>&1; }
if ! { apt update && apt install "${missing[@]}"; }; then
	tail -n 40 "$log" >&2
	echo "install-deps: apt-get failed; its whole output is in $log" >&2
	exit 1
fi
rm -f "$log"
