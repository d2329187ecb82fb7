# Ablation: side q alone learns, from the targets of side k: half of the losses for half of the compute.
# NNODES=4 bash tools/dist_train.sh ablations/one_sided 8
# 73.5 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(symmetric=False)
