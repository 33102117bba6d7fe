#!/bin/bash
# The hosts of hosts.sh with an sshd on each, one key for all. Needs root and openssh-server.
#
#   ssh.sh up DIR N          n1..nN, and ctl without an sshd
#   ssh.sh run DIR HOST CMD  runs a command there as somebody who may log in everywhere
#   ssh.sh down DIR          ends what runs there, and removes them
set -euo pipefail

HOSTS=$(cd "$(dirname "$0")" && pwd)/hosts.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

up() {
    local dir i
    dir=$(mkdir -p "$1" && cd "$1" && pwd)
    mkdir -p "$dir/home" "$dir/run" /run/sshd ~/.ssh
    chmod 700 "$dir/home"
    [[ -e $dir/home/id_ed25519 ]] || ssh-keygen -q -t ed25519 -N '' -f "$dir/home/id_ed25519"
    [[ -e $dir/run/host_key ]] || ssh-keygen -q -t ed25519 -N '' -f "$dir/run/host_key"
    cp "$dir/home/id_ed25519.pub" "$dir/home/authorized_keys"
    cat >"$dir/home/config" <<EOC
Host *
    BatchMode yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
EOC
    "$HOSTS" up "$dir" "$2"
    for ((i = 1; i <= $2; i++)); do
        cat >"$dir/run/sshd.n$i" <<EOC
HostKey $dir/run/host_key
PidFile $dir/run/n$i.pid
AuthorizedKeysFile $dir/home/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
MaxStartups 100
EOC
        (run "$dir" "n$i" /usr/sbin/sshd -f "$dir/run/sshd.n$i" -E "$dir/run/n$i.log")
    done
}

run() { # each host has mounts of its own: nobody else sees this ~/.ssh
    local dir
    dir=$(cd "$1" && pwd)
    # shellcheck disable=SC2016
    exec "$HOSTS" run "$dir" "$2" bash -c 'mount --bind "$1" ~/.ssh && shift && exec "$@"' ssh "$dir/home" "${@:3}"
}

case ${1:---help} in
    -h | --help) usage ;;
    up) up "$2" "$3" ;;
    run) run "${@:2}" ;;
    down) "$HOSTS" down "$2" ;;
    *) usage >&2 && exit 2 ;;
esac
