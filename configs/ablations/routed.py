# Ablation: each sheet only through what its loss reads. What changes is which cells share a BN batch.
# NNODES=4 bash tools/dist_train.sh ablations/routed 8
# 46.0 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(joint='none')
