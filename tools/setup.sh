# What ./run and ./test share: packages and the user that control runs as. Sourced by bash.

BUILD_PACKAGES="gcc meson ninja-build pkg-config libc6-dev libjansson-dev libsqlite3-dev libmicrohttpd-dev
	libcurl4-gnutls-dev libarchive-dev libexpat1-dev libext2fs-dev zlib1g-dev libzstd-dev liblzma-dev libbz2-dev libssl-dev
	libseccomp-dev libcap-dev libcmocka-dev
	libmnl-dev libnftables-dev libisofs-dev libcrypt-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler"
RUN_PACKAGES="mmdebstrap ca-certificates adduser dnsmasq-base e2fsprogs btrfs-progs kmod git"
# For machines alone.
MACHINE_PACKAGES="qemu-system-x86 qemu-system-common qemu-utils ovmf swtpm"
TEST_PACKAGES="python3 busybox-static docker-registry skopeo attr libcap2-bin iproute2 nftables xfsprogs xorriso
	python3-yaml python3-jinja2 python3-jsonschema python3-configobj python3-oauthlib python3-jsonpatch python3-requests
	python3-netifaces python3-h2 libxml2-utils openssh-client dropbear-bin"
# Agents of guests, for tests; they are services, which are not to be started.
GUEST_PACKAGES="qemu-guest-agent"

# Clients of the dialects, for the tests that use the real ones: some bring a server, which is not to be started.
CLIENT_PACKAGES="docker.io docker-compose python3-docker"
# Larger ones, for ./test --all: also the installer that machines boot over the network.
MORE_CLIENT_PACKAGES="ansible podman vagrant debian-installer-12-netboot-amd64"
command -v npm >/dev/null || MORE_CLIENT_PACKAGES="$MORE_CLIENT_PACKAGES nodejs npm" # others' Node.js has npm in it

# For the tests in lab machines. Some would start servers on this host, which only the machines are to have.
LAB_PACKAGES="mmdebstrap cpio lvm2 thin-provisioning-tools nfs-kernel-server tgt open-iscsi nvme-cli
	ceph-common ceph-mon ceph-osd ceph-mgr apparmor"

# need_root [sudo options] COMMAND …: runs the command again as root, unless we are
need_root() {
	[ "$(id -u)" = 0 ] && return
	command -v sudo >/dev/null || { echo "wabe: needs root, and there is no sudo" >&2; exit 1; }
	exec sudo "$@"
}

install_packages() {
	local p missing=()
	for p in "$@"; do
		dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
	done
	[ ${#missing[@]} = 0 ] && return
	echo "Installing ${missing[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Debian's own way to say that no service is to be started (invoke-rc.d(8)).
install_without_starting() {
	local policy=/usr/sbin/policy-rc.d made=no
	[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=yes; }
	install_packages "$@" || { [ $made = yes ] && rm -f $policy; return 1; }
	[ $made = no ] || rm -f $policy
}

make_user() {
	getent passwd wabe >/dev/null ||
		adduser --system --group --no-create-home --home /nonexistent --quiet wabe
	getent group wabe-docker >/dev/null || addgroup --system --quiet wabe-docker
}
