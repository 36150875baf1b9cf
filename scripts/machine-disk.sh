#!/usr/bin/env bash
# Makes the disk of an emulated machine, a Debian 12 with systemd and Docker, and what boots it:
#
#	scripts/machine-disk.sh DIR "KERNEL…" [PACKAGE…]
#
# A KERNEL is the Debian release whose kernel it is: DIR/KERNEL/vmlinuz and DIR/KERNEL/initrd start
# it, DIR/disk.img has the modules of all. Packages come from where this machine's apt has its own.
# A network of the kernel's command line (ip=) is set up by systemd-networkd; a shell serves each
# of the virtio ports shell.0 to shell.3 (package lab/vm).
set -euo pipefail

suite=bookworm
packages=(systemd-sysv udev dbus iproute2 iputils-ping iptables apparmor docker.io procps kmod)
(($# >= 2)) || {
	echo "usage: $0 DIR \"KERNEL…\" [PACKAGE…]" >&2
	exit 2
}
dir=$1
read -ra kernels <<<"$2"
packages+=("${@:3}")
[[ ! -e $dir/ready ]] || exit 0
rm -rf "$dir"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
root=$dir/root

# shellcheck disable=SC2016 # apt's own variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -n 1)
debian="deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?apt has no source that is Debian}"

# The parts of Debian that a server without a screen has no use for.
modules() {
	local package=$1 version=$2 from
	from=./lib/modules/$version/kernel
	[[ $package != *trixie* ]] || from=./usr/lib/modules/$version/kernel
	dpkg --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink \
		--exclude="$from/sound" --exclude="$from/drivers/"{gpu,media,usb,iio,staging,infiniband,scsi,hid,input,platform,ata,mmc,mtd,hwmon,i2c,edac,thunderbolt,bluetooth,nvme,md,target,video} \
		--exclude="$from/drivers/net/"{ethernet,wireless,usb,can,phy,dsa,wwan,fddi,hamradio} --exclude="$from/fs/"{xfs,btrfs,ocfs2,nfs,nfsd,smb,ceph,f2fs,gfs2,jfs} \
		--exclude="$from/net/"{wireless,mac80211,bluetooth}
}

# The smallest initial file system: the modules that the disk and the shells need, and a shell that loads them, but
# those for another processor.
initrd() {
	local version=$1 to=$2 tree modules
	tree=$(mktemp -d)
	mkdir -p "$tree"/{bin,dev,proc,sys,new,modules}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	mapfile -t modules < <(chroot "$root" modprobe -S "$version" -a --show-depends virtio_pci virtio_blk virtio_console ext4 | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++')
	{
		echo '#!/bin/busybox sh'
		# shellcheck disable=SC2016 # the variables of another shell
		echo 'b=/bin/busybox; $b mount -t devtmpfs dev /dev; $b mount -t proc proc /proc'
		local i=0 module name
		for module in "${modules[@]}"; do
			name=$((i++)).ko
			case $module in
			*.xz) xz -dc "$root/$module" >"$tree/modules/$name" ;;
			*) cp "$root/$module" "$tree/modules/$name" ;;
			esac
			echo "\$b insmod /modules/$name 2>/dev/null"
		done
		# shellcheck disable=SC2016 # the variables of another shell
		echo 'until [ -b /dev/vda ]; do $b usleep 20000; done; $b mount -t ext4 /dev/vda /new; $b mount --move /dev /new/dev; $b umount /proc; exec $b switch_root /new /sbin/init'
	} >"$tree/init"
	chmod 755 "$tree/init"
	(cd "$tree" && find . | busybox cpio -o -H newc) >"$to" 2>/dev/null
	rm -rf "$tree"
}

# What each machine has besides Debian's packages.
furnish() {
	cat >"$root/usr/local/bin/serve-shell" <<-'END'
		#!/bin/bash
		# Answers each line "ID SECONDS SCRIPT" on a virtio port with "ID STATUS OUTPUT"; both texts in base64.
		port=/dev/virtio-ports/$1 file=/run/$1
		exec 3<>"$port"
		while read -r id seconds script <&3; do
			base64 -d <<<"$script" >"$file"
			timeout -k 1 "$seconds" bash "$file" </dev/null >"$file.out" 2>&1 3>&-
			printf '\n%s %s %s\n' "$id" "$?" "$(base64 -w 0 "$file.out")" >&3
		done
	END
	chmod 755 "$root/usr/local/bin/serve-shell"
	cat >"$root/etc/systemd/system/serve-shell@.service" <<-'END'
		[Unit]
		Description=Shell at virtio port %i
		DefaultDependencies=no
		StartLimitIntervalSec=0
		Conflicts=shutdown.target
		[Service]
		Environment=HOME=/root
		ExecStart=/usr/local/bin/serve-shell %i
		Restart=always
		RestartSec=1
		KillMode=process
	END
	cat >"$root/etc/udev/rules.d/99-serve-shell.rules" <<-'END'
		SUBSYSTEM=="virtio-ports", ATTR{name}=="shell.*", TAG+="systemd", ENV{SYSTEMD_WANTS}+="serve-shell@$attr{name}.service"
	END
	ln -s /lib/systemd/system/systemd-network-generator.service "$root/etc/systemd/system/sysinit.target.wants/"
	chroot "$root" systemctl -q enable systemd-networkd
	chroot "$root" systemctl -q mask getty@tty1 serial-getty@ttyS0 e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer fstrim.timer dpkg-db-backup.timer
	echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
	: >"$root/etc/machine-id" # each machine makes its own
	rm -f "$root/var/lib/dbus/machine-id" "$root/etc/hostname" "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
	rm -rf "$root"/usr/share/{doc,man,locale}
	# What a test wants of these it starts.
	for name in NetworkManager NetworkManager-wait-online NetworkManager-dispatcher firewalld ufw keepalived nftables; do
		[[ ! -e $root/lib/systemd/system/$name.service ]] || chroot "$root" systemctl -q disable "$name"
	done
}

sources=("$debian $suite main")
for kernel in "${kernels[@]}"; do
	[[ $kernel == "$suite" ]] || sources+=("$debian $kernel main")
done
mmdebstrap --quiet --variant=essential --mode=root --include="$(
	IFS=,
	echo "${packages[*]}"
)" \
	--aptopt="APT::Default-Release \"$suite\"" --dpkgopt=force-unsafe-io --skip=cleanup/reproducible \
	--customize-hook="cd '$dir'; for k in ${kernels[*]}; do
		p=\$(APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG apt-cache depends linux-image-amd64/\$k | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
		mkdir -p \$k; cd \$k; APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG apt-get -qq -o APT::Sandbox::User=root download \$p; cd ..; done" \
	"$suite" "$root" "${sources[@]}"
for kernel in "${kernels[@]}"; do
	package=$(echo "$dir/$kernel"/linux-image-*.deb)
	version=${package##*/linux-image-}
	version=${version%%_*}
	modules "$package" "$version"
	rm "$package"
	mv "$root/boot/vmlinuz-$version" "$dir/$kernel/vmlinuz"
	rm "$root"/boot/*
	chroot "$root" depmod "$version"
	initrd "$version" "$dir/$kernel/initrd"
done
furnish
truncate -s 4G "$dir/disk.new"
mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -d "$root" "$dir/disk.new"
rm -rf "$root"
mv "$dir/disk.new" "$dir/disk.img"
touch "$dir/ready"
