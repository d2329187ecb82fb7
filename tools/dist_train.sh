#!/usr/bin/env bash
# Train on several GPUs of one or more machines.
#
#   bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#   NNODES=4 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 bash tools/dist_train.sh CONFIG 8
#
# GPUS is per machine. With NNODES > 1 start it on every machine, each with its own NODE_RANK.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,8s/^# \?//p' "$0"; exit 2; }
. "$(dirname "$0")/allocator.sh"
CONFIG=$1
GPUS=$2
# What torchrun passes on to its processes: SIGUSR1, Slurm's usual warning, is not in its default.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
