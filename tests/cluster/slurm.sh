#!/bin/bash
# A SLURM of several nodes on one machine: real slurmctld, slurmd and munged, one slurmd on each host of hosts.sh. Needs root.
#
#   slurm.sh up DIR [N]          N nodes (2); CPUS, GPUS and MEMORY (MB) a node from the environment; DIR/slurm.conf
#   slurm.sh run DIR CMD         runs a client on the controller: sbatch, squeue, scontrol
#   slurm.sh inside DIR HOST CMD runs a command with the mounts and network that jobs on HOST have
#   slurm.sh down DIR            ends the jobs and the daemons, and removes the hosts
set -euo pipefail

HOSTS=$(cd "$(dirname "$0")" && pwd)/hosts.sh

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }

configure() { # DIR N: no cgroups and no accounting, which need a system of their own; quick to schedule and to requeue
    local gpu=${GPUS:-0}
    cat <<EOC
ClusterName=box
SlurmctldHost=ctl(10.77.0.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire: a requeued job waits until the credential of its last start has expired.
AuthInfo=socket=$1/munge/socket,cred_expire=5
StateSaveLocation=$1/state
SlurmdSpoolDir=$1/spool.%n
SlurmctldPidFile=$1/run/slurmctld.pid
SlurmdPidFile=$1/run/slurmd.%n.pid
SlurmctldLogFile=$1/log/slurmctld.log
SlurmdLogFile=$1/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
SlurmdTimeout=15
MinJobAge=3600
GresTypes=gpu
NodeName=n[1-$2] CPUs=${CPUS:-2} CoresPerSocket=${CPUS:-2} RealMemory=${MEMORY:-8000} $( ((gpu)) && echo "Gres=gpu:$gpu ")State=UNKNOWN
# Jobs in urgent take the nodes from jobs in box at once, from jobs in grace after a minute's notice; both go back into the queue.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Later versions: PreemptParameters=send_user_signal.
SlurmctldParameters=preempt_send_user_signal
PartitionName=box Nodes=ALL Default=YES MaxTime=UNLIMITED State=UP PriorityTier=1
PartitionName=grace Nodes=ALL MaxTime=UNLIMITED State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=UNLIMITED State=UP PriorityTier=2 PreemptMode=OFF
EOC
}

pretend_gpus() { # DIR N COUNT: devices that are there and do nothing, so that scripts that ask for GPUs are taken as they are
    local i
    mkdir -p "$1/gpu"
    for ((i = 0; i < $3; i++)); do [[ -e $1/gpu/$i ]] || mknod "$1/gpu/$i" c 1 3; done
    echo "NodeName=n[1-$2] Name=gpu File=$1/gpu/[0-$(($3 - 1))]"
}

up() {
    local dir count=${2:-2} i
    dir=$(mkdir -p "$1" && cd "$1" && pwd)
    mkdir -p "$dir"/{state,log,run,munge}
    chmod 755 "$dir"
    "$HOSTS" up "$dir/net" "$count"
    # A munged of our own: no user, key or socket of the system's.
    [[ -s $dir/munge/key ]] || (umask 077 && head -c 1024 /dev/urandom >"$dir/munge/key")
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/run/munged.pid" \
        --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed" --num-threads=2
    configure "$dir" "$count" >"$dir/slurm.conf"
    if ((${GPUS:-0})); then pretend_gpus "$dir" "$count" "$GPUS"; fi >"$dir/gres.conf"
    "$HOSTS" run "$dir/net" ctl slurmctld -c -f "$dir/slurm.conf"
    for ((i = 1; i <= count; i++)); do
        mkdir -p "$dir/spool.n$i"
        "$HOSTS" run "$dir/net" "n$i" slurmd -f "$dir/slurm.conf"
    done
    until (($("$0" run "$dir" sinfo -h -N -p box -t idle -o %N 2>/dev/null | wc -l) == count)); do sleep 0.2; done
}

down() {
    local munged
    "$HOSTS" down "$1/net"
    if munged=$(cat "$1/run/munged.pid" 2>/dev/null); then kill "$munged" 2>/dev/null; fi
}

case ${1:---help} in
    -h | --help) usage ;;
    up) up "${@:2}" ;;
    run) SLURM_CONF=$2/slurm.conf exec "$HOSTS" run "$2/net" ctl "${@:3}" ;;
    inside) exec nsenter --target "$(cat "$2/run/slurmd.$3.pid")" --mount --uts --net "${@:4}" ;;
    down) down "$2" ;;
    *) usage >&2 && exit 2 ;;
esac
