#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# nsgate at work: two pairs of network namespaces, two policies, real traffic, and the books
# balanced to the packet. Makes everything it needs and removes it again, also after Ctrl-C.
#
# usage: deploy/demo.sh [BUILD]      exit: 0 if all numbers agree
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../build}" && pwd) || exit 1
traffic=(/usr/bin/python3 "$here/demo_traffic.py")
prefix=nsgate-demo # every namespace of ours is called so, and nobody else's
datagrams=1000     # for each port and family
connections=20
declare -A number=([shop]=1 [lab]=2) # in the addresses
deadline=15 # seconds, for what takes milliseconds

# ---- looks ----

bold='' dim='' green='' red='' off='' tick=ok cross=DIFFERS jq=(jq -M)
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' off=$'\e[0m' jq=(jq -C)
fi
if [ -t 1 ] && [ "$(locale charmap 2>/dev/null)" = UTF-8 ]; then
	tick='✓' cross='✗'
fi

step()
{
	steps=$((${steps:-0} + 1))
	printf '\n%s%d. %s%s\n' "$bold" "$steps" "$1" "$off"
}
say()
{
	printf '   %s\n' "$@"
}
indent()
{
	sed 's/^/   /'
}
# Time to read, for people only.
pause()
{
	[ -t 1 ] && sleep "$1"
	return 0
}
die()
{
	printf '%sdemo: %s%s\n' "$red" "$1" "$off" >&2
	[ -d "${dir:-}" ] && tail -n 5 "$dir"/*.log >&2
	exit 1
}
# until SECONDS COMMAND...: repeat it until it succeeds. The seconds are those of a machine that is not
# slow.
until_true()
{
	local slow=${NSGATE_TEST_SLOW:-1}
	local end=$((SECONDS + $1 * ${slow%.*}))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

# ---- what is made and removed ----

remove_namespaces()
{
	local name
	for name in "$prefix"-{shop,lab}{,-server}; do
		[ -e "/run/netns/$name" ] && ip netns del "$name"
	done
	return 0
}

# Ends what was started here and still runs, first gently.
end_jobs()
{
	local jobs signal i
	mapfile -t jobs < <(jobs -pr)
	for signal in TERM KILL; do
		for ((i = 0; i < 100; i++)); do
			kill "-$signal" "${jobs[@]}" 2>/dev/null || return 0
			sleep 0.05
			signal=0
		done
	done
}

clean_up()
{
	trap '' INT TERM
	end_jobs
	remove_namespaces
	[ -z "${dir:-}" ] || rm -rf "$dir"
}

# make_pair NAME NUMBER: a client and a server, linked.
make_pair()
{
	local client=$prefix-$1 server=$prefix-$1-server
	{
		ip netns add "$client" && ip netns add "$server" &&
			ip link add eth0 netns "$client" type veth peer name eth0 netns "$server" &&
			ip -n "$client" addr add "10.99.$2.1/24" dev eth0 &&
			ip -n "$server" addr add "10.99.$2.2/24" dev eth0 &&
			ip -n "$client" addr add "fd99:$2::1/64" dev eth0 nodad &&
			ip -n "$server" addr add "fd99:$2::2/64" dev eth0 nodad &&
			ip -n "$client" link set lo up && ip -n "$server" link set lo up &&
			ip -n "$client" link set eth0 up && ip -n "$server" link set eth0 up
	} || die "cannot make the namespaces $client and $server"
	say "$client   10.99.$2.1, fd99:$2::1   <- veth ->   $server"
}

declare -A daemon
start_daemon()
{
	"$build/$1" --runtime-dir "$dir/run" --config-dir "$dir/etc" 2>"$dir/$1.log" &
	daemon[$1]=$!
}

ctl()
{
	"$build/nsgatectl" --runtime-dir "$dir/run" --config-dir "$dir/etc" "$@"
}

stats()
{
	ctl --json stats "$1"
}

broker_is_connected()
{
	ctl --json stats | jq -e '.agent.broker == "connected"'
}

# ---- traffic ----

declare -A receiver sender

# start_receiver NAME PORT...: counts what arrives, until stop_receiver.
start_receiver()
{
	local name=$1
	shift
	ip netns exec "$prefix-$name-server" "${traffic[@]}" receive "$@" \
		>"$dir/$name.arrived" 2>"$dir/$name.receiver.log" &
	receiver[$name]=$!
	until_true "$deadline" grep -q ready "$dir/$name.receiver.log" ||
		die "the receiver of $name does not start"
}

# stop_receiver NAME: its counts are in $dir/NAME.arrived then.
stop_receiver()
{
	kill "${receiver[$1]}"
	wait "${receiver[$1]}" || die "the receiver of $1 failed"
}

# start_sender NAME ARGUMENT...: what it sent is in $dir/NAME.sent once it has ended.
start_sender()
{
	local name=$1
	shift
	ip netns exec "$prefix-$name" "${traffic[@]}" send "10.99.${number[$name]}.2" \
		"fd99:${number[$name]}::2" "$@" >"$dir/$name.sent" 2>"$dir/$name.sender.log" &
	sender[$name]=$!
}

# counted NAME RULE: the packets that the rule has seen.
counted()
{
	stats "$1" | jq --arg rule "$2" '[.rules[] | select(.name == $rule).packets] | add // 0'
}

counts_to()
{
	[ "$(counted "$1" "$2")" -ge "$3" ]
}

wrong=0
# row NAME PORT VERDICT RULE: one line of the table.
row()
{
	local name=$1 port=$2 verdict=$3 rule=$4 sent arrived count expected mark colour
	sent=$(jq -r --arg port "$port" '.[$port] | "\(.[0]) + \(.[1])"' "$dir/$name.sent")
	arrived=$(jq -r --arg port "$port" '.[$port] | "\(.[0]) + \(.[1])"' "$dir/$name.arrived")
	count=$(counted "$name" "$rule")
	expected="0 + 0"
	[ "$verdict" = accept ] && expected=$sent
	mark=$tick colour=$green
	if [ "$arrived" != "$expected" ] || [ "$count" -ne $((sent)) ]; then
		mark=$cross colour=$red wrong=$((wrong + 1))
	fi
	printf '   %-5s %-9s %-7s %13s %13s %8s   %s%s%s\n' "$name" "${port/:/ }" "$verdict" \
		"$sent" "$arrived" "$count" "$colour" "$mark" "$off"
}

# ---- the policies: each the other's mirror image ----

# shop_policy ACTION: what becomes of games.
shop_policy()
{
	cat <<-POLICY
		{"version": 1, "hooks": ["in", "out"],
		 "default": {"in": "accept", "out": "drop"},
		 "rules": [
		  {"name": "dns",   "action": "accept", "protocol": "udp", "dport": 53},
		  {"name": "games", "action": "$1", "protocol": "udp", "dport": 9999},
		  {"name": "https-opened", "action": "continue",
		   "protocol": "tcp", "dport": 443, "tcp_flags": "syn/syn,ack"},
		  {"name": "https", "action": "accept", "protocol": "tcp", "dport": 443},
		  {"name": "mail",  "action": "reject", "protocol": "tcp", "dport": 25}]}
	POLICY
}

lab_policy()
{
	cat <<-'POLICY'
		{"version": 1, "hooks": ["in", "out"], "default": "accept",
		 "rules": [
		  {"name": "dns",   "action": "drop",     "protocol": "udp", "dport": 53},
		  {"name": "games", "action": "continue", "protocol": "udp", "dport": 9999},
		  {"name": "https", "action": "reject",   "protocol": "tcp", "dport": 443},
		  {"name": "mail-opened", "action": "continue",
		   "protocol": "tcp", "dport": 25, "tcp_flags": "syn/syn,ack"}]}
	POLICY
}

# ---- the steps ----

start()
{
	step "Two pairs of network namespaces, and the two daemons"
	make_pair shop 1
	make_pair lab 2
	start_daemon nsgate-broker
	start_daemon nsgate-agent
	until_true "$deadline" broker_is_connected || die "the daemons do not start"
	say "" "nsgate-broker  $(describe "${daemon[nsgate-broker]}")" \
		"nsgate-agent   $(describe "${daemon[nsgate-agent]}")"
	pause 1
}

# describe PID: as whom it runs, and what it may do.
describe()
{
	local uid caps
	uid=$(awk '/^Uid:/ { print $3 }' "/proc/$1/status")
	caps=$(awk '/^CapEff:/ { print $2 }' "/proc/$1/status")
	printf 'pid %d, user %s, capabilities %s' "$1" "$(id -nu "$uid")" "$(name_capabilities "$((16#$caps))")"
}

name_capabilities()
{
	local names=()
	(($1 & 1 << 12)) && names+=(net_admin)
	(($1 & 1 << 19)) && names+=(sys_ptrace)
	(($1 & 1 << 21)) && names+=(sys_admin)
	(($1 & ~(1 << 12 | 1 << 19 | 1 << 21))) && names+=("and more")
	printf '%s' "${names[*]:-none}"
}

attach()
{
	step "Two policies. shop may do only what is listed:"
	shop_policy drop | tee "$dir/shop.json" | indent
	say "" "lab may do everything but what is listed (and two rules that only count):"
	lab_policy | tee "$dir/lab.json" | indent
	pause 1.5
	say ""
	local name
	for name in shop lab; do
		say "${dim}\$ nsgatectl policy set $name $name.json$off" \
			"${dim}\$ nsgatectl attach netns:$prefix-$name --name $name --policy $name$off"
		{ ctl policy set "$name" "$dir/$name.json" &&
			ctl attach "netns:$prefix-$name" --name "$name" --policy "$name"; } 2>&1 | indent ||
			die "cannot attach $name"
	done
	pause 1
}

exchange()
{
	local name ports=(udp:53 udp:9999 tcp:443 tcp:25)
	step "Real traffic, from both at once"
	say "To each port, in IPv4 and in IPv6: $datagrams datagrams, or $connections TCP connections."
	for name in shop lab; do
		start_receiver "$name" "${ports[@]}"
	done
	for name in shop lab; do
		start_sender "$name" "udp:53:$datagrams" "udp:9999:$datagrams" \
			"tcp:443:$connections" "tcp:25:$connections"
	done
	for name in shop lab; do
		wait "${sender[$name]}" || die "the sender of $name failed"
		until_true 5 counts_to "$name" dns $((2 * datagrams))
		until_true 5 counts_to "$name" games $((2 * datagrams))
		stop_receiver "$name"
	done

	printf '\n   %s%-5s %-9s %-7s %13s %13s %8s%s\n' "$bold" from to policy "sent v4+v6" \
		"arrived v4+v6" counted "$off"
	row shop udp:53 accept dns
	row shop udp:9999 drop games
	row shop tcp:443 accept https-opened
	row shop tcp:25 reject mail
	row lab udp:53 drop dns
	row lab udp:9999 accept games
	row lab tcp:443 reject https
	row lab tcp:25 accept mail-opened
	pause 2
}

show_stats()
{
	local name
	step "What the agent says, in JSON (a selection; zeros left out)"
	for name in shop lab; do
		say "${dim}\$ nsgatectl --json stats $name$off"
		stats "$name" | "${jq[@]}" -c '
			def nonzero: with_entries(select(.value != 0));
			{name, state, policy, mode, netns}, {packets: .packets | nonzero},
			{protocol: .protocol | nonzero}, .rules[]' | indent
		pause 1
	done
}

# The packets that shop's rule games, its only one that drops, has dropped.
dropped()
{
	stats shop | jq '.packets.dropped - .default.packets'
}

# Each packet is judged by the old policy or by the new one, and none is lost on the way.
change()
{
	local counted_before dropped_before dropped arrived sent mark=$tick colour=$green
	step "A policy changes while packets flow"
	counted_before=$(counted shop games)
	dropped_before=$(dropped)
	start_receiver shop udp:9999
	say "shop sends to udp 9999, a packet each millisecond. All are dropped, until:"
	start_sender shop --pace 0.001 "udp:9999:$datagrams"
	until_true 5 counts_to shop games $((counted_before + datagrams / 2)) ||
		die "only $(($(counted shop games) - counted_before)) packets of $((2 * datagrams)) are counted"
	shop_policy accept >"$dir/shop.json"
	say "${dim}\$ sed -i '/games/s/drop/accept/' shop.json$off" \
		"${dim}\$ nsgatectl policy set shop shop.json$off"
	ctl policy set shop "$dir/shop.json" | indent
	wait "${sender[shop]}" || die "the sender of shop failed"
	until_true 5 counts_to shop games $((counted_before + 2 * datagrams))
	stop_receiver shop

	sent=$(jq '."udp:9999" | add' "$dir/shop.sent")
	arrived=$(jq '."udp:9999" | add' "$dir/shop.arrived")
	dropped=$(($(dropped) - dropped_before))
	if [ $((dropped + arrived)) -ne "$sent" ] || [ "$arrived" -eq 0 ] || [ "$dropped" -eq 0 ]; then
		mark=$cross colour=$red wrong=$((wrong + 1))
	fi
	say "" "$sent sent = $dropped dropped by the old policy + $arrived let through by the new one   $colour$mark$off"
	pause 1
}

finish()
{
	local left
	step "Detach: nothing stays behind"
	ctl detach shop | indent
	ctl detach lab | indent
	left=$({
		ip netns exec "$prefix-shop" cat /proc/net/netfilter/nfnetlink_queue
		ip netns exec "$prefix-lab" cat /proc/net/netfilter/nfnetlink_queue
	} | wc -l)
	say "queues left in the two namespaces: $left"
	[ "$left" -eq 0 ] || wrong=$((wrong + 1))
	if [ "$wrong" -ne 0 ]; then
		printf '\n%s%d of the numbers do not agree.%s\n' "$red$bold" "$wrong" "$off"
		exit 1
	fi
	printf '\n%sAll numbers agree.%s Next: README.md, "A first policy of your own".\n' "$green$bold" "$off"
}

if [ "$(id -u)" -ne 0 ]; then
	echo "demo: needs root, as it makes network namespaces" >&2
	exit 1
fi
# The directory itself is locked, so that no file is left. The daemons inherit the lock.
exec {lock}</run
flock -n "$lock" || die "another demo is running, or one was killed and its daemons still run"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
remove_namespaces # of a demo that was killed
dir=$(mktemp -d /tmp/nsgate-demo.XXXXXX)
chmod 755 "$dir" # the agent does not stay root

start
attach
exchange
show_stats
change
finish
