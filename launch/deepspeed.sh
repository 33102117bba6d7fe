#!/bin/bash
# Trains with the deepspeed launcher, on this machine or on the machines of a hostfile.
#
#   launch/deepspeed.sh [options] --config RECIPE [--section.key VALUE ...]
#
#   --ranks R          on this machine: ranks (one for each GPU; one where there is none)
#   --hostfile FILE    the machines and their ranks; launch/hostfile.example shows one
#   --launcher NAME    how to start all of them from here: pdsh (over ssh; the default) or openmpi
#   --node-rank I      start only line I of the hostfile, from 0, here: no ssh; once on each machine
#   --head HOST        where the ranks meet (the hostfile's first machine)
#   --port P           its port (on one machine one that is free, else 29500)
#   --env-file FILE    variables for the ranks of all machines; launch/deepspeed_env.example shows one. Without it deepspeed
#                      looks for .deepspeed_env here and at home. Only pdsh and openmpi read it
#   --logs DIR         one file for each rank below DIR instead of the terminal
#   --print            print the deepspeed command and end
#
# Everything from the first other argument on goes to train/pretrain.py. The project and the environment must be at the same path
# on every machine. PYTHON names another interpreter than `python`. TERM, INT or HUP: the ranks save a checkpoint and end; twice: at
# once. Exit code 75: saved before the end, the same command goes on.
set -euo pipefail

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ranks='' hostfile='' launcher=pdsh node_rank='' head='' port='' env_file='' logs='' print=''

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

fail() {
    echo "error: $1" >&2
    exit 2
}

read_hostfile() { # its machines, in order; deepspeed itself would train on this one alone where there is no such file
    local name slots rest number=0
    [[ -f $hostfile ]] || fail "no hostfile $hostfile; see launch/hostfile.example"
    hosts=()
    while read -r name slots rest || [[ $name ]]; do
        number=$((number + 1))
        [[ $name && $name != \#* ]] || continue
        [[ $slots =~ ^slots=[1-9][0-9]*$ ]] || fail "$hostfile, line $number: write NAME slots=RANKS, not '$name $slots $rest'"
        hosts+=("$name")
    done <"$hostfile"
    ((${#hosts[@]})) || fail "$hostfile names no machine"
    head=${head:-${hosts[0]#*@}}
}

check_env_file() { # deepspeed splits every line at its first "=" and dies of one that has none
    local file=$1 line number=0
    while IFS= read -r line || [[ $line ]]; do
        number=$((number + 1))
        [[ $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] ||
            fail "$file, line $number: deepspeed takes NAME=VALUE lines only, no empty line and no comment, not '$line'"
        [[ ! ${line%%=*} =~ (^|_)(KEY|TOKEN|SECRET|PASSWORD)(_|$) ]] ||
            fail "$file, line $number: ${line%%=*} would stand in command lines that every user of these machines can read; take it out"
    done <"$file"
}

find_env_file() { # the one named, or those that deepspeed finds by itself
    if [[ $env_file ]]; then
        [[ -f $env_file ]] || fail "no file $env_file; see launch/deepspeed_env.example"
        DS_ENV_FILE=$(realpath "$env_file")
        export DS_ENV_FILE
    fi
    local file
    for file in "${DS_ENV_FILE:-.deepspeed_env}" ~/"${DS_ENV_FILE:-.deepspeed_env}"; do
        if [[ -f $file ]]; then check_env_file "$file"; fi
    done
}

quote() { # an argument for the shell at the other end of ssh; deepspeed itself puts "" around one with spaces, and no more
    # shellcheck disable=SC2001
    if [[ $1 == *' '* ]]; then sed 's/[\\$`]/\\&/g' <<<"$1"; else printf '%q\n' "$1"; fi
}

children() { cat "/proc/$1/task/$1/children" 2>/dev/null; }

# shellcheck disable=SC2046,SC2317
stop() { # the ranks save and end, and their launcher with them; asked again, everything ends
    trap 'kill -TERM -- "-$runner" 2>/dev/null' TERM INT HUP
    local launch launches="pgrep -u \$(id -u) -f '^[^ ]*python[^ ]* -u -m deepspeed.launcher.launch .*--master_port=$port( |\$)'"
    case $route in
        # Not deepspeed.launcher.launch itself: it kills ranks that need more than 30 s.
        pdsh) PDSH_RCMD_TYPE=ssh pdsh -w "$(IFS=, && echo "${hosts[*]}")" "for l in \$($launches); do pkill -TERM -P \$l; done" & ;;
        # mpirun hands USR1 on, and kills a second after TERM.
        openmpi) kill -USR1 $(children "$runner") 2>/dev/null ;;
        *) for launch in $(children "$runner"); do kill -TERM $(children "$launch") 2>/dev/null; done ;;
    esac
}

while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --print) print=yes && shift && continue ;;
        --ranks | --hostfile | --launcher | --node-rank | --head | --port | --env-file | --logs) (($# > 1)) || fail "$1 has no value" ;;&
        --ranks) ranks=$2 ;;
        --hostfile) hostfile=$2 ;;
        --launcher) launcher=$2 ;;
        --node-rank) node_rank=$2 ;;
        --head) head=$2 ;;
        --port) port=$2 ;;
        --env-file) env_file=$2 ;;
        --logs) logs=$2 ;;
        --) shift && break ;;
        *) break ;;
    esac
    shift 2
done
(($#)) || fail "no recipe; add --config train/recipes/NAME.yaml"
PYTHON=$(command -v "${PYTHON:-python}") || fail "no ${PYTHON:-python} here; activate the environment"
export PYTHON
[[ -e /dev/nvidiactl || -e /dev/kfd ]] || export DS_ACCELERATOR=${DS_ACCELERATOR:-cpu}

# Two runs on one machine must not meet in one place; several machines cannot ask each other for a port.
if [[ ! $port && ! $hostfile ]]; then port=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'); fi
port=${port:-29500}
options=(--master_port "$port" --log_level error)
program=("$PROJECT/train/pretrain.py")
if [[ ! $hostfile ]]; then
    route=local
    [[ ! $node_rank ]] || fail "--node-rank needs --hostfile FILE, the same on every machine"
    [[ ! $ranks || ! ${CUDA_VISIBLE_DEVICES:-} ]] || fail "--ranks would take other GPUs than CUDA_VISIBLE_DEVICES names; leave it out"
    if [[ ! $ranks && ${DS_ACCELERATOR:-} == cpu ]]; then ranks=1; fi
    options+=(--hostfile '' ${ranks:+--num_gpus "$ranks"})
else
    [[ ! $ranks ]] || fail "--ranks is for one machine; with a hostfile write slots=$ranks there"
    read_hostfile
    options+=(--hostfile "$hostfile" --master_addr "$head" --no_python --no_local_rank)
    program=("$PROJECT/launch/rank.sh" "$PYTHON" -u "${program[@]}")
    route=${node_rank:+node}
    route=${route:-$launcher}
fi
if [[ $logs && $route != openmpi ]]; then options+=(--enable_each_rank_log "$logs"); fi
case $route in
    local) ;;
    node)
        [[ $node_rank =~ ^[0-9]+$ && $node_rank -lt ${#hosts[@]} ]] || fail "--node-rank $node_rank: $hostfile has 0 to $((${#hosts[@]} - 1))"
        options+=(--no_ssh --node_rank "$node_rank")
        ;;
    pdsh)
        command -v pdsh >/dev/null || fail "pdsh is not installed; or start every machine by --node-rank"
        find_env_file
        # --force_multi: else a hostfile of one machine means this one. ServerAlive: a machine that is gone is noticed after a minute.
        options+=(--launcher pdsh --force_multi)
        export PDSH_SSH_ARGS_APPEND="${PDSH_SSH_ARGS_APPEND:-} -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
        arguments=()
        for argument in "$@"; do arguments+=("$(quote "$argument")"); done
        set -- "${arguments[@]}"
        ;;
    openmpi)
        command -v mpirun >/dev/null || fail "mpirun is not installed"
        find_env_file
        way=$(cd "$PROJECT" && "$PYTHON" -m train interface "$head")
        # By default mpirun binds a rank to one core, and deepspeed makes it use eth0, there or not.
        mpi="--bind-to none --mca btl_tcp_if_include ${way% *} -x MASTER_ADDR=$head -x MASTER_PORT=$port -x PATH"
        options+=(--launcher openmpi --force_multi --launcher_args="$mpi${logs:+ --output-filename $logs}")
        ;;
    *) fail "--launcher $launcher: pdsh or openmpi" ;;
esac
command=("$PYTHON" -m deepspeed.launcher.runner "${options[@]}" "${program[@]}" "$@")
if [[ $print ]]; then printf '%q ' "${command[@]}" && echo && exit 0; fi

# A process group of its own: a Ctrl-C then reaches the ranks through `stop`, and once.
set -m
trap stop TERM INT HUP
"${command[@]}" </dev/null &
runner=$!
while kill -0 "$runner" 2>/dev/null; do wait "$runner" || true; done
wait "$runner"
