#!/bin/bash
# Trains in this container, or runs another command in it.
#
#   docker run ... alphadecay:cpu --config RECIPE [--section.key VALUE ...]
#   docker run ... alphadecay:cpu python -m train prepare --config RECIPE
#
# Variables choose how the program is started:
#   LAUNCHER        torchrun (the default) or deepspeed
#   RANKS           ranks in this container (one for each GPU; one where there is none)
#   NODES, HEAD     torchrun over several containers: how many, and HOST:PORT where they meet, the same in each
#   MAX_RESTARTS    torchrun: how often dead ranks are started again
#   HOSTFILE, NODE_RANK   deepspeed over several containers: the same file in each, and which line is this one
#
# `docker stop` makes the ranks save a checkpoint before they end; give it time: `docker stop --time 120`.
set -euo pipefail

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

case ${1:---help} in
    -h | --help) usage && exit 0 ;;
    -*) ;;
    *) exec "$@" ;;
esac
options=()
option() { if [[ $2 ]]; then options+=("$1" "$2"); fi; }

option --ranks "${RANKS:-}"
case ${LAUNCHER:-torchrun} in
    torchrun)
        option --nodes "${NODES:-}"
        option --head "${HEAD:-}"
        option --max-restarts "${MAX_RESTARTS:-}"
        ;;
    deepspeed)
        option --hostfile "${HOSTFILE:-}"
        option --node-rank "${NODE_RANK:-}"
        option --head "${HEAD:-}"
        ;;
    *) echo "error: LAUNCHER is $LAUNCHER; torchrun or deepspeed" >&2 && exit 2 ;;
esac
# exec: the launcher gets the signals.
exec "$PROJECT/launch/${LAUNCHER:-torchrun}.sh" "${options[@]}" "$@"
