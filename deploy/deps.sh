#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Install those Debian packages of the named sets that are not there yet. Asks nothing, touches no
# package that is there, and prints a line only where there is something to install.
#
# usage: deploy/deps.sh SET...  SET: build, demo, test, fleet, deb, runtimes, programs, systemd,
#        kernels, userlands, lint, bench, fuzz
set -eu

packages_of()
{
	case $1 in
	build)
		echo make gcc libc6-dev linux-libc-dev libmnl-dev libnetfilter-queue-dev libnftnl-dev \
			libnl-3-dev libnl-route-3-dev libnftables-dev libjson-c-dev libidn2-dev nettle-dev libmicrohttpd-dev \
			libcap-dev libseccomp-dev
		# Any of libcurl's flavours will do, and apt would replace one by another.
		installed libcurl4-openssl-dev || installed libcurl4-nss-dev || echo libcurl4-gnutls-dev
		;;
	demo) echo python3 iproute2 jq ;;
	test) echo libcmocka-dev python3 python3-pytest python3-jsonschema iproute2 nftables procps netbase \
		socat curl jq ;;
	fleet)
		echo prometheus curl
		command -v kubectl >/dev/null || echo kubernetes-client # it conflicts with others
		;;
	deb) echo build-essential debhelper dpkg-dev fakeroot lintian ;;
	runtimes) echo runc crun podman busybox-static uidmap slirp4netns docker.io \
		containernetworking-plugins ;;
	programs) echo wireguard-tools wireguard-go vsftpd lftp tftpd-hpa tftp-hpa redis-server nginx-light \
		haproxy nghttp2-client etcd-server etcd-client mosquitto mosquitto-clients samba smbclient \
		openssh-server openssh-client rsync udhcpc udhcpd iptables ndisc6 traceroute keepalived \
		postgresql-15 ;;
	systemd) echo systemd-container debootstrap debian-archive-keyring ;;
	upgrade) echo git ;;
	userlands) echo debootstrap debian-archive-keyring clang musl-tools git ;;
	kernels)
		echo debootstrap debian-archive-keyring qemu-system-x86 busybox-static cpio kmod e2fsprogs \
			xz-utils zstd
		# Up to Debian 12 it comes with qemu.
		[ -x /usr/lib/qemu/virtiofsd ] || ! packaged virtiofsd || echo virtiofsd
		;;
	bench) echo python3 iproute2 gnuplot-nox ;;
	lint) echo clang-format clang-tidy cppcheck shellcheck mandoc valgrind ;;
	fuzz) echo clang libclang-rt-dev ;;
	*)
		echo "deps.sh: no set $1: build, demo, test, fleet, deb, runtimes, programs, systemd, kernels, userlands, lint, bench or fuzz" >&2
		return 2
		;;
	esac
}

# Nobody has asked for servers to run: without an answer of a policy, apt starts what it installs.
no_services()
{
	policy=/usr/sbin/policy-rc.d
	[ -e $policy ] && return
	trap 'rm -f "$log" $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
}

installed()
{
	dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

packaged()
{
	apt-cache show "$1" >/dev/null 2>&1
}

install_packages()
{
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
		install --no-install-recommends --no-remove "$@" </dev/null >"$log" 2>&1
}

# The same of other distributions, where nothing is installed: who builds there is told.
packages_elsewhere()
{
	case $1:$2 in
	dnf:build) echo make gcc kernel-headers libmnl-devel libnetfilter_queue-devel libnftnl-devel libnl3-devel \
		nftables-devel json-c-devel libidn2-devel nettle-devel libmicrohttpd-devel libcap-devel libseccomp-devel libcurl-devel ;;
	dnf:demo) echo python3 iproute jq util-linux ;;
	dnf:test) echo libcmocka-devel libasan libubsan python3 python3-pytest python3-jsonschema iproute \
		nftables procps-ng setup socat curl jq util-linux ;;
	apk:build) echo make gcc musl-dev linux-headers libmnl-dev libnetfilter_queue-dev libnftnl-dev libnl3-dev \
		nftables-dev json-c-dev libidn2-dev nettle-dev libmicrohttpd-dev libcap-dev libseccomp-dev curl-dev ;;
	apk:demo) echo bash python3 iproute2 jq util-linux-misc ;;
	apk:test) echo bash cmocka-dev python3 py3-pytest py3-jsonschema iproute2 nftables procps-ng socat \
		curl jq setpriv util-linux-misc ;;
	esac
}

# tell MANAGER COMMAND SET...: what a distribution calls it all.
tell()
{
	manager=$1 command=$2 packages=
	shift 2
	for set in "$@"; do
		packages="$packages $(packages_elsewhere "$manager" "$set")"
	done
	echo "  $command $(echo "$packages" | tr -s ' ' '\n' | awk 'NF && !seen[$0]++' | paste -sd ' ' -)" >&2
}

if ! command -v apt-get >/dev/null; then
	echo "deps.sh: no apt-get here; nsgate needs, unless it is there:" >&2
	command -v apk >/dev/null || tell dnf "dnf install" "$@"
	command -v dnf >/dev/null || tell apk "apk add" "$@"
	exit 0
fi

missing=
for set in "$@"; do
	packages=$(packages_of "$set")
	for package in $packages; do
		case " $missing " in *" $package "*) continue ;; esac
		installed "$package" || missing="$missing $package"
	done
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "deps.sh: needs root, to install:$missing" >&2
	exit 1
fi

echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
case " $* " in *" programs "*) no_services ;; esac
# shellcheck disable=SC2086 # a list of words
if ! install_packages $missing; then
	# The package lists are absent or stale: only now is it worth the time to fetch them.
	apt-get -qq -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 </dev/null || cat "$log" >&2
	install_packages $missing || {
		cat "$log" >&2
		echo "deps.sh: could not install:$missing" >&2
		exit 1
	}
fi
