#!/bin/sh
# resolved.sh ROOT DIR: runs the systemd-resolved that is unpacked in ROOT in a mount namespace of its own, with the
# file of docs/names.md. The host's other server, 127.0.0.56, is that of an interface. DIR is for files.
set -eu
root=$1 dir=$2
for file in passwd group; do
	cp /etc/$file "$dir/$file"
	mount --bind "$dir/$file" /etc/$file
done
echo 'systemd-resolve:x:996:996::/:/usr/sbin/nologin' >>/etc/passwd
echo 'systemd-resolve:x:996:' >>/etc/group
mkdir -p /run/systemd
mount -t tmpfs none /run/systemd
mkdir -p /run/systemd/resolve /run/systemd/netif/links /run/systemd/resolved.conf.d
chown 996:996 /run/systemd/resolve
cat >/run/systemd/resolved.conf.d/weft.conf <<EOF
[Resolve]
DNS=127.0.0.55
Domains=~weft.local
EOF
# As systemd-networkd writes it.
cat >"/run/systemd/netif/links/$(ip -o link show eth0 | cut -d: -f1)" <<EOF
ADMIN_STATE=configured
OPER_STATE=routable
CARRIER_STATE=carrier
ADDRESS_STATE=routable
NETWORK_FILE=/run/systemd/network/eth0.network
DNS=127.0.0.56
LLMNR=no
MDNS=no
EOF
LD_LIBRARY_PATH=$(dirname "$(find "$root" -name 'libsystemd-shared-*.so')"):$root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH
exec "$root/lib/systemd/systemd-resolved"
