# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of nsgatectl(1) for bash.

# The first column of a listing, asked of the same daemons that the command line names.
_nsgatectl_names()
{
	nsgatectl "${globals[@]}" "$@" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_nsgatectl()
{
	local cur prev word command='' i operand=0
	local -a globals=() words_given=()

	COMPREPLY=()
	cur=${COMP_WORDS[COMP_CWORD]}
	prev=${COMP_WORDS[COMP_CWORD - 1]}
	# A ':' breaks words: take TARGET as one.
	if declare -F __ltrim_colon_completions >/dev/null && declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : cur prev
	fi

	case $prev in
	--output)
		compopt -o default
		return
		;;
	--runtime-dir | --config-dir)
		compopt -o dirnames
		return
		;;
	--policy)
		mapfile -t COMPREPLY < <(compgen -W "$(_nsgatectl_names policy ls)" -- "$cur")
		return
		;;
	--name | --label | --queue | --queues | --timeout | --wait)
		return
		;;
	--network)
		mapfile -t COMPREPLY < <(compgen -W 'veth none' -- "$cur")
		return
		;;
	--user)
		mapfile -t COMPREPLY < <(compgen -u -- "$cur")
		return
		;;
	esac

	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--runtime-dir | --config-dir)
			globals+=("$word" "${COMP_WORDS[i + 1]}")
			((i++))
			;;
		--timeout) ((i++)) ;;
		-*) ;;
		*) words_given+=("$word") ;;
		esac
	done
	command=${words_given[0]-}
	operand=$((${#words_given[@]} - 1))
	if [[ $command == policy || $command == namespace ]]; then
		command="$command ${words_given[1]-}"
		operand=$((operand - 1))
	fi

	if [[ $cur == -* ]]; then
		local options='--timeout --json --help'

		case $command in
		'') options+=' --runtime-dir --config-dir --version' ;;
		metrics) options+=' --listen --output' ;;
		run) options+=' --name --policy --label --pending --network --user' ;;
		attach) options+=' --name --policy --label --pending --allow-host --replace --queue --queues' ;;
		detach) options+=' --all' ;;
		ready) options+=' --wait' ;;
		'policy rm') options+=' --force' ;;
		esac
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		return
	fi

	local candidates=''
	case $command in
	'') candidates='attach detach ls show stats policy namespace metrics run lend ready doctor schema' ;;
	'policy ') candidates='check set get ls rm' ;;
	'namespace ') candidates='policy' ;;
	attach)
		candidates="self pid: path:/ $(ip netns 2>/dev/null | awk '{ print "netns:" $1 }')"
		candidates+=" $(podman ps --format 'podman:{{.Names}}' 2>/dev/null)"
		candidates+=" $(docker ps --format 'docker:{{.Names}}' 2>/dev/null)"
		;;
	detach | show | stats | lend) [[ $operand -eq 0 ]] && candidates=$(_nsgatectl_names ls) ;;
	run) [[ $operand -eq 0 ]] && compopt -o default && candidates=$(compgen -c -- "$cur") ;;
	'policy get' | 'policy rm') [[ $operand -eq 0 ]] && candidates=$(_nsgatectl_names policy ls) ;;
	'policy check') compopt -o default ;;
	'policy set')
		if [[ $operand -eq 0 ]]; then
			candidates=$(_nsgatectl_names policy ls)
		else
			compopt -o default
		fi
		;;
	'namespace policy')
		case $operand in
		0) candidates=$(_nsgatectl_names ls) ;;
		1) candidates=$(_nsgatectl_names policy ls) ;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$cur")
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}

complete -F _nsgatectl nsgatectl
