#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What is delivered beside the programs: the sample policies are valid, packages that the build misses
# are named as they are installed, the page of what was tested is that of the record, and an
# installation is whole and goes away without a trace.
#
# usage: tests/deploy.sh BUILD
#
# shellcheck disable=SC2317 # check calls the functions
build=$1
cd "$(dirname "$0")/.." || exit
root=$(mktemp -d) || exit
trap 'rm -rf "$root"' EXIT
failed=0

# check NAME COMMAND...
check()
{
	name=$1
	shift
	if "$@" >"$root/log" 2>&1; then
		echo "ok - $name"
	else
		echo "not ok - $name"
		cat "$root/log"
		failed=1
	fi
}

run_make()
{
	make --silent --no-print-directory BUILD="$build" DESTDIR="$root/image" PREFIX=/usr "$@"
}

is_whole()
{
	for file in sbin/nsgate-broker sbin/nsgate-agent bin/nsgatectl bin/nsgate-handoff \
		share/man/man1/nsgatectl.1 share/man/man5/nsgate-policy.5 share/man/man8/nsgate-agent.8 \
		share/bash-completion/completions/nsgatectl share/nsgate/policy-v1.schema.json \
		share/nsgate/policies/web-client.json lib/sysusers.d/nsgate.conf lib/tmpfiles.d/nsgate.conf \
		lib/modules-load.d/nsgate.conf lib/modprobe.d/nsgate.conf \
		libexec/nsgate/oci-hook libexec/nsgate/nsgate-runc share/man/man8/nsgate-oci-hook.8 \
		share/containers/oci/hooks.d/50-nsgate.json \
		lib/systemd/system/nsgate-broker.service lib/systemd/system/nsgate-agent.service \
		lib/systemd/system/nsgate-broker.socket lib/systemd/system/nsgate-agent.socket \
		lib/systemd/system/nsgate-link.socket lib/systemd/system/nsgate-stats.socket \
		lib/cni/nsgate share/nsgate/cni/10-nsgate.conflist share/man/man8/nsgate-cni.8; do
		[ -s "$root/image/usr/$file" ] || {
			echo "$file is missing"
			return 1
		}
	done
}

names_its_programs()
{
	for unit in "$root"/image/usr/lib/systemd/system/*.service; do
		program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")
		[ -x "$root/image$program" ] || {
			echo "$unit starts $program"
			return 1
		}
	done
	program=$(jq -r .hook.path "$root/image/usr/share/containers/oci/hooks.d/50-nsgate.json")
	[ -x "$root/image$program" ] || {
		echo "the OCI hook's file starts $program"
		return 1
	}
	! grep -r '@PREFIX@' "$root/image"
}

is_gone()
{
	[ -z "$(find "$root/image" -type f)" ]
}

# What the build misses where there are no headers at all, and what is installed in its place: each
# says the names of packages by itself.
names_what_is_installed()
{
	mkdir -p "$root/nothing"
	"${CC:-cc}" -nostdinc -I "$root/nothing" -DNEEDS_TESTS -E -P deploy/needs.c >"$root/missing" || return
	[ "$(grep -c Debian "$root/missing")" = "$(grep -c '^#if.*__has_include' deploy/needs.c)" ] || {
		cat "$root/missing"
		return 1
	}
	grep -oE '[a-z0-9_.-]+-(dev|devel|headers)\b' "$root/missing" >"$root/named"
	while read -r package; do
		grep -qw -- "$package" deploy/deps.sh || {
			echo "deploy/needs.c names $package, deploy/deps.sh does not"
			return 1
		}
	done <"$root/named"
}

# All rows of nsgate/figure.h, but for that of the suite that grows it.
describes_every_figure()
{
	sed -nE 's/^\t(COUNTED|KNOWN)\([0-9]+, ([a-z]+), ([a-z_]+),.*/\2 \3/p' include/nsgate/figure.h |
		grep -v grown >"$root/figures"
	[ "$(wc -l <"$root/figures")" -ge 12 ] || return
	while read -r object figure; do
		grep -qE "^\.(It )?Cm $figure( |\$)" doc/man/nsgate.7 || {
			echo "doc/man/nsgate.7 does not say what $object.$figure is"
			return 1
		}
	done <"$root/figures"
}

for policy in deploy/policies/*.json; do
	check "$policy is valid" "$build/nsgatectl" policy check "$policy"
done
check "the build names packages as deps.sh does" names_what_is_installed
check "doc/SUPPORT.md is what its record makes" tests/support check
check "nsgate(7) describes every figure" describes_every_figure
check "doc/PRIVSEP.md says how much there is to read" tests/lines "$build"
check "make install" run_make install
check "everything is installed" is_whole
check "units start installed programs" names_its_programs
for program in sbin/nsgate-broker sbin/nsgate-agent bin/nsgatectl bin/nsgate-handoff \
	libexec/nsgate/oci-hook lib/cni/nsgate; do
	check "$program --version" "$root/image/usr/$program" --version
done
check "make uninstall" run_make uninstall
check "nothing is left of it" is_gone
exit $failed
