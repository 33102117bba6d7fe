#!/bin/bash
# Trains with torchrun, on one node or as one node of several: run it on every node with the same options.
#
#   launch/torchrun.sh [options] --config RECIPE [--section.key VALUE ...]
#
#   --nodes N          nodes (1)
#   --ranks R          ranks on this node (one for each GPU; one where there is none)
#   --head HOST:PORT   where the nodes meet: a node's address and a free port on it; needed with --nodes 2 and more
#   --id NAME          name of the meeting, the same on every node (train)
#   --max-restarts K   after a rank dies, start all of them again from the last complete checkpoint, at most K times (0)
#   --logs DIR         one file for each rank below DIR; the terminal then shows the first rank of each node
#
# Everything from the first other argument on goes to train/pretrain.py. PYTHON names another interpreter than `python`;
# NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, if set, are left as they are, else the way to HEAD decides.
set -euo pipefail

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python}
nodes=1 ranks='' head='' id=train restarts=0 logs=''

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

fail() {
    echo "error: $1" >&2
    exit 2
}

while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --nodes | --ranks | --head | --id | --max-restarts | --logs) (($# > 1)) || fail "$1 has no value" ;;&
        --nodes) nodes=$2 ;;
        --ranks) ranks=$2 ;;
        --head) head=$2 ;;
        --id) id=$2 ;;
        --max-restarts) restarts=$2 ;;
        --logs) logs=$2 ;;
        --) shift && break ;;
        *) break ;;
    esac
    shift 2
done
(($#)) || fail "no recipe; add --config train/recipes/NAME.yaml"

options=(--max-restarts "$restarts")
if ((nodes == 1)) && [[ ! $head ]]; then
    options+=(--standalone)
else
    [[ $head == *:* ]] || fail "--nodes $nodes needs --head HOST:PORT, the same on every node"
    way=$(cd "$PROJECT" && "$PYTHON" -m train interface "${head%:*}")
    read -r interface address <<<"$way"
    # "=": NCCL would take every interface whose name begins like this.
    export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-=$interface} GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$interface}
    # --local-addr: else the ranks look for the first node by a name that only it may know.
    options+=(--nnodes "$nodes" --rdzv-backend c10d --rdzv-endpoint "$head" --rdzv-id "$id" --local-addr "$address")
fi
if [[ $logs ]]; then
    logs=$logs/$(hostname -s)
    mkdir -p "$logs"
    options+=(--log-dir "$logs" --tee 3 --local-ranks-filter 0)
fi
if [[ ! $ranks && ! -e /dev/nvidiactl && ! -e /dev/kfd ]]; then ranks=1; fi
ranks=${ranks:-$("$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))')}
# Left alone, torchrun gives every rank one thread, whatever the cores.
share() { cd "$PROJECT" && LOCAL_WORLD_SIZE=$ranks "$PYTHON" -c 'from train.system.cpu_count import cores_of_rank; print(cores_of_rank())'; }
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(share)}
# Restarted ranks would read the addresses of the dead ones in the agents' store (pytorch#135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# Warnings of the stores, one for each connection where addresses have no names; TORCH_CPP_LOG_LEVEL=INFO brings them back and more.
export TORCH_CPP_LOG_LEVEL=${TORCH_CPP_LOG_LEVEL:-ERROR}
exec "$PYTHON" -m torch.distributed.run --nproc-per-node "$ranks" "${options[@]}" "$PROJECT/train/pretrain.py" "$@"
