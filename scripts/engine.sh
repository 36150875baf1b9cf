#!/usr/bin/env bash
# Unpacks the Docker Engine of another Debian release into a directory of its own:
#
#	scripts/engine.sh trixie build/engine/trixie
#	WEFT_ENGINE=$PWD/build/engine/trixie go test ./e2e
#
# Nothing is installed. The programs run on this machine, with the C library and the
# loader of their own release: both are written into them, so the directory cannot be moved.
set -euo pipefail

suite=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
[[ ! -e $dir/ready ]] || exit 0

apt=$dir/apt
mkdir -p "$apt"/lists/partial "$apt"/archives/partial
: >"$apt/status" # nothing counts as installed, so that every library comes too
# shellcheck disable=SC2016 # apt's own variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
apt() {
	apt-get -qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status" \
		-o Dir::Cache="$apt" -o Dir::Cache::Archives="$apt/archives" -o APT::Sandbox::User=root "$@"
}
apt update
apt -y --no-install-recommends --download-only install docker.io docker-cli containerd runc >/dev/null
for package in "$apt"/archives/*.deb; do
	dpkg -x "$package" "$dir"
done
rm -rf "$apt"

programs=(dockerd docker docker-init tini-static docker-proxy containerd containerd-shim-runc-v2 runc)
keep=()
for program in "${programs[@]}"; do
	keep+=(! -name "$program")
done
# Whatever else came along would hide the machine's own, built for its own libraries.
find "$dir"/usr/bin "$dir"/usr/sbin ! -type d "${keep[@]}" -delete

loader=$(readlink -f "$dir"/usr/lib64/ld-linux-*.so.*)
for program in usr/sbin/{dockerd,docker-proxy,runc} usr/bin/{docker,containerd,containerd-shim-runc-v2}; do
	patchelf --force-rpath --set-rpath "$(dirname "$loader")" --set-interpreter "$loader" "$(readlink -f "$dir/$program")"
done
"$dir/usr/sbin/dockerd" --version
touch "$dir/ready"
