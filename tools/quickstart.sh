#!/usr/bin/env bash
# From a folder of images to a better detector, in one command:
#
#   bash tools/quickstart.sh                 pre-train on drawn scenes, then fine-tune Mask R-CNN on few
#                                            labelled ones, from the export and from random weights
#   bash tools/quickstart.sh --images DIR    pre-train on your own images instead, and export
#
#   --seeds N                                fine-tune N times from each start (default 1)
#
# Everything goes to work_dirs/quickstart, with --images to work_dirs/quickstart_images.
set -euo pipefail

IMAGES= SEEDS=1
while [ $# -gt 0 ]; do
    case $1 in
    --images) IMAGES=${2:?--images needs a folder} && shift 2 ;;
    --seeds) SEEDS=${2:?--seeds needs a number} && shift 2 ;;
    *)
        sed -n '2,10s/^# \?//p' "$0"
        [ "$1" = -h ] || [ "$1" = --help ] && exit 0
        exit 2
        ;;
    esac
done
if [ -n "$IMAGES" ]; then
    [ -d "$IMAGES" ] || { echo "error: no image folder at $IMAGES" >&2; exit 1; }
    IMAGES=$(cd "$IMAGES" && pwd)
fi

. "$(dirname "$0")/install.sh"
cd "$ROOT"
OUT=work_dirs/quickstart${IMAGES:+_images}
mkdir -p "$OUT"
SECONDS_FILE=$OUT/seconds.txt
: >"$SECONDS_FILE"
rm -rf "$OUT"/pretrain "$OUT"/finetune
export PYTHONWARNINGS=ignore
. tools/allocator.sh

# Run one stage: its name, a pattern of the lines worth showing, the command.
stage() {
    local name=$1 show=$2 start=$SECONDS log=$OUT/${1// /_}.log
    shift 2
    echo "== $name (log: $log)"
    "$@" 2>&1 | tee "$log" | { grep --line-buffered -E "$show" || true; } | sed -u 's/^\(.\{140\}\).*/\1/' || {
        tail -n 5 "$log" >&2
        fail "stage '$name' failed: see $log"
    }
    printf '%s\t%s\n' "$name" "$((SECONDS - start))" >>"$SECONDS_FILE"
}
PROGRESS='Epoch\(|Iter\(|mAP|Error|MiB'

scenes=$OUT/scenes
if [ -z "$IMAGES" ] && [ ! -e "$scenes/complete" ]; then
    stage 'draw scenes' 'scenes$' python tools/make_scenes.py "$scenes"
    touch "$scenes/complete"
fi
# A config of its own, since paths may hold anything; small folders get a small batch.
FOLDER=${IMAGES:-$ROOT/$scenes/unlabelled} python - "$OUT/pretrain.py" <<'PYTHON'
import os
import sys

from mcl_mm.datasets import UnlabelledImages

folder = os.environ['FOLDER']
try:
    count = len(UnlabelledImages(data_root=folder))
except (OSError, ValueError) as error:
    sys.exit(f'{type(error).__name__}: {error}')
with open(sys.argv[1], 'w') as file:
    file.write(
        '# Written by tools/quickstart.sh.\n'
        f'_base_ = {os.path.abspath("configs/quickstart/pretrain.py")!r}\n'
        f'train_dataloader = dict(batch_size={min(count, 64)}, dataset=dict(data_root={folder!r}))\n'
    )
PYTHON
stage 'montage picture' 'montage|Error' python tools/browse_montage.py "$OUT/pretrain.py" "$OUT/montage.png"
# The data workers keep one core busy; threads that had to share it would hold up all others.
CORES=$(nproc)
stage 'pre-train' "$PROGRESS" env OMP_NUM_THREADS=$((CORES > 1 ? CORES - 1 : 1)) python tools/train.py "$OUT/pretrain.py" --work-dir "$OUT/pretrain"
stage 'export' 'MiB|Error' python tools/export.py "$(cat "$OUT/pretrain/last_checkpoint")" "$OUT/export.pth"
if [ -z "$IMAGES" ]; then
    stage 'fine-tune' '==|mAP|random |box_head |Error' python tools/compare_transfer.py \
        configs/quickstart/finetune.py "$OUT/export.pth" --work-dir "$OUT/finetune" \
        --starts random +box_head --seeds "$SEEDS"
fi
python tools/quickstart_report.py "$OUT"
