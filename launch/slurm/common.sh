#!/bin/bash
# What the job scripts beside it share; they source it. All it knows of the cluster it reads from the allocation.
#
# Set by the job script or in the environment of sbatch:
#   ENVIRONMENT     file to source first: a virtual environment's bin/activate, or one with `module load` lines
#   RECIPE          used where the arguments have no --config
#   RANKS           ranks a node (one for each GPU allocated, else one)
#   MAX_RESTARTS    times that ranks which died are started again within the job (3)
#   PREFLIGHT       no: train without looking at the nodes first
#   SWEEP           for job arrays: a file of overrides, task k takes line k, which may name --config and --output_dir; without it task k
#                   takes --run.seed k
#   CONTAINER       image to run in: FILE.sif by apptainer, anything else by pyxis (enroot)
#   CONTAINER_ARGS  more options for it, e.g. --container-mounts=/data:/data or --bind /data
set -euo pipefail

ALREADY_WAITED=127 # what bash's `wait` says of a process it has told about before

usage() { sed -n '2,/^#SBATCH\|^set /{/^#SBATCH\|^set /d;s/^# \{0,1\}//p}' "$1"; }

say() { echo "[$(date +%T)] $*"; }

fail() {
    echo "error: $1" >&2
    exit 2
}

# --- the allocation ---------------------------------------------------------------------------------------------------

# begin ARGUMENT...: reads the allocation and the arguments; from here on a signal stops the run after a checkpoint.
begin() {
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then
        usage "$0"
        usage "${BASH_SOURCE[0]}"
        exit 0
    fi
    [[ ${SLURM_JOB_ID:-} ]] || fail "this is a job script: sbatch $0"
    TRAIN_JOB_STARTED=$(date +%s) # run.max_hours counts from here, also after ranks were started again
    export TRAIN_JOB_STARTED
    unset SLURM_EXPORT_ENV # set by sbatch --export: srun would pass on no more than that
    if [[ ${ENVIRONMENT:-} ]]; then
        [[ -r $ENVIRONMENT ]] || fail "ENVIRONMENT: no file $ENVIRONMENT in $PWD on $(hostname -s)"
        set +u
        # shellcheck disable=SC1090
        . "$ENVIRONMENT"
        set -u
    fi
    PYTHON=${PYTHON:-python}
    RANKS=${RANKS:-${SLURM_GPUS_ON_NODE:-1}}
    # The smallest node decides, "64(x2),48": a step asks for the same everywhere.
    CPUS=${SLURM_CPUS_PER_TASK:-$(tr ',' '\n' <<<"$SLURM_JOB_CPUS_PER_NODE" | cut -d'(' -f1 | sort -n | head -n 1)}
    export PYTHON RANKS OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((CPUS > RANKS ? CPUS / RANKS : 1))}
    find_head
    read_arguments "$@"
    ASKED='' ASKED_BY=''
    trap 'ask_to_stop USR1' USR1
    trap 'ask_to_stop TERM' TERM
    say "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)): $SLURM_JOB_NUM_NODES nodes ($SLURM_JOB_NODELIST) with $RANKS ranks," \
        "meeting at $MASTER_ADDR:$MASTER_PORT; results in $RUN_DIR"
}

# The first node's address, and two ports that no other job on these nodes has while ids are not 10000 apart.
find_head() {
    local node
    HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    node=$(head -n 1 <<<"$HOSTS")
    MASTER_ADDR=$(scontrol show node -o "$node" | grep -oP '(?<= NodeAddr=)\S+')
    MASTER_PORT=$((10000 + SLURM_JOB_ID % 10000 * 2))
    PREFLIGHT_PORT=$((MASTER_PORT + 1))
    export MASTER_ADDR MASTER_PORT
}

# ARGUMENTS for train/pretrain.py, and RUN_DIR. A task of an array gets its line of SWEEP, or its seed, and a folder of its own.
read_arguments() {
    local task='' line words=() given=("$@")
    if [[ ${SLURM_ARRAY_TASK_ID:-} && ${SWEEP:-} ]]; then
        line=$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$SWEEP")
        [[ $line ]] || fail "SWEEP: $SWEEP has no line $SLURM_ARRAY_TASK_ID; submit with --array=1-$(wc -l <"$SWEEP")"
        readarray -t words < <(xargs -n 1 <<<"$line")
        [[ " ${words[*]}" == *" --output_dir"[\ =]* ]] || task=task-$SLURM_ARRAY_TASK_ID
    elif [[ ${SLURM_ARRAY_TASK_ID:-} ]]; then
        words=(--run.seed "$SLURM_ARRAY_TASK_ID")
        task=seed-$SLURM_ARRAY_TASK_ID
    fi
    given+=(${words[@]+"${words[@]}"})
    [[ " ${given[*]-}" == *" --config"[\ =]* ]] || given=(--config "$RECIPE" ${given[@]+"${given[@]}"})
    RUN_DIR=$(alone "$PYTHON" -m train where "${given[@]}") || exit $?
    RUN_DIR=$RUN_DIR${task:+/$task}
    ARGUMENTS=()
    set -- "${given[@]}"
    while (($#)); do # one --output_dir, the last word on it
        case $1 in
            --output_dir) shift ;;
            --output_dir=*) ;;
            *) ARGUMENTS+=("$1") ;;
        esac
        shift
    done
    ARGUMENTS+=(--output_dir "$RUN_DIR")
    LOGS=$RUN_DIR/logs/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
    mkdir -p "$LOGS"
    # Asks this start alone: $RUN_DIR/stop would stop whichever job has the folder.
    export TRAIN_STOP_FILE=$LOGS/stop
}

# --- steps ------------------------------------------------------------------------------------------------------------

# container: sets WRAPPER, what stands before a command, and CONTAINED, the options of srun; both empty without CONTAINER.
container() {
    local extra=()
    WRAPPER=() CONTAINED=()
    read -ra extra <<<"${CONTAINER_ARGS:-}"
    case ${CONTAINER:-} in
        "") ;;
        *.sif) WRAPPER=(apptainer exec ${SLURM_GPUS_ON_NODE:+--nv} --bind "$PWD" --pwd "$PWD" ${extra[@]+"${extra[@]}"} "$CONTAINER") ;;
        *) CONTAINED=(--container-image="$CONTAINER" --container-mounts="$PWD:$PWD" --container-workdir="$PWD" ${extra[@]+"${extra[@]}"}) ;;
    esac
}

# each COMMAND...: once on every node, in the container if there is one.
each() {
    container
    srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$CPUS" \
        ${SRUN_ARGS[@]+"${SRUN_ARGS[@]}"} ${CONTAINED[@]+"${CONTAINED[@]}"} ${WRAPPER[@]+"${WRAPPER[@]}"} "$@"
}

# alone COMMAND...: on the first node only, in the container if there is one.
alone() {
    container
    if [[ ${CONTAINED[*]} ]]; then
        srun --nodes=1 --ntasks=1 "${CONTAINED[@]}" "$@"
    else
        ${WRAPPER[@]+"${WRAPPER[@]}"} "$@"
    fi
}

# preflight: ends the job for a mistake in the recipe, or with the names of the nodes that would spoil it.
preflight() {
    [[ ${PREFLIGHT:-yes} == no || $ASKED ]] && return
    say "preflight; what the run will be is in $LOGS/dry-run.txt"
    attend alone "$PYTHON" "$PROJECT/train/pretrain.py" --dry-run --world-size "$((SLURM_JOB_NUM_NODES * RANKS))" "${ARGUMENTS[@]}" \
        >"$LOGS/dry-run.txt"
    ((STATUS == 0)) || exit "$STATUS"
    SRUN_ARGS=(--kill-on-bad-exit=0) # every node gets to speak
    attend each "$PYTHON" -m train preflight --head "$MASTER_ADDR:$PREFLIGHT_PORT" --hosts "$(paste -sd, <<<"$HOSTS")" \
        --ranks "$RANKS" --output_dir "$RUN_DIR"
    ((STATUS == 0)) || exit "$STATUS"
}

# --- from start to end ------------------------------------------------------------------------------------------------

# attend COMMAND...: runs it and waits, with an ear for signals; its exit code is STATUS.
attend() {
    local code
    STATUS=$ALREADY_WAITED
    "$@" &
    while :; do
        ASKED_BY=''
        wait $! && code=0 || code=$?
        ((code == ALREADY_WAITED)) || STATUS=$code
        [[ $ASKED_BY ]] || return 0 # else `wait` has ended for the signal: wait again
    done
}

# ask_to_stop SIGNAL: the ranks see the file, finish their step, save and end.
ask_to_stop() {
    ASKED_BY=$1 ASKED=${ASKED:-$1}
    say "SIG$1: asking the run to stop after a checkpoint"
    # A full or failing disk may not take the file: then by a signal, for which torchrun gives the ranks 30 s.
    touch "$TRAIN_STOP_FILE" || scancel --signal=TERM "$SLURM_JOB_ID" || say "the run could not be asked"
}

# conclude: after the launcher's end. Back into the queue if SLURM or run.max_hours asked for the stop and there is more to do.
conclude() {
    local code=0 step reason progress
    "$PYTHON" -m train state "$RUN_DIR" >/dev/null || code=$?
    step=$("$PYTHON" -m train state "$RUN_DIR" step) || true
    reason=$("$PYTHON" -m train state "$RUN_DIR" reason) || true
    say "$RUN_DIR is $("$PYTHON" -m train state "$RUN_DIR" || true) at step $step; the launcher ended with $STATUS"
    ((code == 0)) && exit 0
    ((code == 75)) || exit $((STATUS ? STATUS : code))
    # SIGTERM is scancel, which is to be obeyed, or a preemption, after which SLURM requeues by itself.
    [[ $ASKED == USR1 || $reason == run.max_hours ]] || exit "$STATUS"
    progress="$step steps, $("$PYTHON" -m train state "$RUN_DIR" prepared || true) documents prepared"
    if [[ $(cat "$RUN_DIR/requeued" 2>/dev/null) == "$progress" ]]; then
        fail "no step was done since the last requeue, at step $step; not requeued again: give the job more --time"
    fi
    echo "$progress" >"$RUN_DIR/requeued" || say "cannot write $RUN_DIR/requeued; requeued all the same"
    say "requeued to go on from step $step"
    trap - USR1 TERM
    scontrol requeue "$SLURM_JOB_ID"
    sleep 600 # until SLURM ends this start
}
