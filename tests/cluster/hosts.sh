#!/bin/bash
# Hosts on one machine: each a network namespace with its own name, address and mounts, joined by a bridge. Needs root and iproute2.
#
#   hosts.sh up DIR N          n1..nN at 10.77.0.1..N, and ctl at 10.77.0.254; DIR/hosts is their /etc/hosts
#   hosts.sh run DIR HOST CMD  runs a command there
#   hosts.sh cut DIR HOST      takes its network away
#   hosts.sh mend DIR HOST     gives it back
#   hosts.sh down DIR          ends what still runs there, and removes them
set -euo pipefail

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }

# One name for each DIR, so that several of these live side by side.
namespace() { echo "ad$(readlink -f "$1" | cksum | cut -d' ' -f1)-$2"; }

up() {
    local dir=$1 count=$2 hub i net
    mkdir -p "$dir"
    {
        echo "127.0.0.1 localhost"
        echo "10.77.0.254 ctl"
        for ((i = 1; i <= count; i++)); do echo "10.77.0.$i n$i"; done
    } >"$dir/hosts"
    hub=$(namespace "$dir" ctl)
    ip netns add "$hub"
    ip -n "$hub" link set lo up
    ip -n "$hub" link add bridge type bridge
    ip -n "$hub" addr add 10.77.0.254/24 dev bridge
    ip -n "$hub" link set bridge up
    for ((i = 1; i <= count; i++)); do
        net=$(namespace "$dir" "n$i")
        ip netns add "$net"
        ip -n "$net" link set lo up
        ip -n "$hub" link add "port$i" type veth peer name eth0 netns "$net"
        ip -n "$hub" link set "port$i" master bridge up
        ip -n "$net" addr add "10.77.0.$i/24" dev eth0
        ip -n "$net" link set eth0 up
    done
}

run() {
    local dir=$1 host=$2 net
    shift 2
    net=$(namespace "$dir" "$host")
    # shellcheck disable=SC2016
    exec nsenter --net="/run/netns/$net" unshare --mount --uts --propagation private \
        bash -c 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"' hosts "$host" "$dir/hosts" "$@"
}

down() {
    local nets net signal pids
    nets=$(ip netns list | cut -d' ' -f1 | grep -F "$(namespace "$1" '')" || true)
    for signal in TERM KILL; do
        for _ in {1..30}; do
            pids=$(for net in $nets; do ip netns pids "$net"; done)
            [[ $pids ]] || break 2
            # shellcheck disable=SC2086
            kill -"$signal" $pids 2>/dev/null || true
            sleep 0.1
        done
    done
    for net in $nets; do ip netns delete "$net"; done
}

case ${1:---help} in
    -h | --help) usage ;;
    up) up "$2" "$3" ;;
    run) run "${@:2}" ;;
    cut) ip -n "$(namespace "$2" "$3")" link set eth0 down ;;
    mend) ip -n "$(namespace "$2" "$3")" link set eth0 up ;;
    down) down "$2" ;;
    *) usage >&2 && exit 2 ;;
esac
