#!/bin/bash
# Runs a command as one rank: under the names that torch.distributed knows, whoever started it, and on the network that leads to the
# first node.
#
#   launch/rank.sh python train/pretrain.py --config RECIPE [--section.key VALUE ...]
#
# RANK, LOCAL_RANK and WORLD_SIZE are taken from OpenMPI, MPICH or SLURM where they are not set. MASTER_ADDR and MASTER_PORT must be.
# NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, if set, are left as they are.
set -euo pipefail

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

fail() {
    echo "error: $1" >&2
    exit 2
}

first() { # NAME...: the value of the first of these variables that is set
    local name
    for name in "$@"; do
        if [[ ${!name:-} ]]; then echo "${!name}" && return; fi
    done
    fail "$(hostname): no rank: none of $* is set"
}

case ${1:---help} in -h | --help) usage && exit 0 ;; esac
# SLURM last: mpirun inside an allocation counts its own ranks.
RANK=$(first RANK OMPI_COMM_WORLD_RANK PMI_RANK SLURM_PROCID)
LOCAL_RANK=$(first LOCAL_RANK OMPI_COMM_WORLD_LOCAL_RANK MPI_LOCALRANKID SLURM_LOCALID)
WORLD_SIZE=$(first WORLD_SIZE OMPI_COMM_WORLD_SIZE PMI_SIZE SLURM_NTASKS)
[[ ${MASTER_ADDR:-} && ${MASTER_PORT:-} ]] || fail "$(hostname): MASTER_ADDR and MASTER_PORT are not set"
way=$(cd "$PROJECT" && "${PYTHON:-python}" -m train interface "$MASTER_ADDR")
# "=": NCCL would take every interface whose name begins like this.
export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-=${way% *}} GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-${way% *}}
export RANK LOCAL_RANK WORLD_SIZE
exec "$@"
