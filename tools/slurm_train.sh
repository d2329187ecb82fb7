#!/usr/bin/env bash
# Train on a Slurm cluster.
#
#   GPUS=32 GPUS_PER_NODE=8 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
#
# CPUS_PER_TASK (default 8) should cover train_dataloader.num_workers; SRUN_ARGS go to srun. Two jobs that
# may share a machine need a PORT each (default 29500). Without GPUs: GPUS is the number of processes,
# SRUN_ARGS=--gres=none.
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,9s/^# \?//p' "$0"; exit 2; }
. "$(dirname "$0")/allocator.sh"
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
if ((GPUS_PER_NODE > GPUS)); then GPUS_PER_NODE=$GPUS; fi
export MASTER_PORT=${PORT:-29500}
# shellcheck disable=SC2086  # SRUN_ARGS are several words
exec srun -p "$1" \
    --job-name="$2" \
    --gres="gpu:$GPUS_PER_NODE" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-8}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$3" --work-dir="$4" --launcher=slurm "${@:5}"
