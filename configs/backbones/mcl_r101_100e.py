# MCL with ResNet-101, trained as mcl_r50_100e.
# bash tools/dist_train.sh configs/backbones/mcl_r101_100e.py 8      (on each of 4 nodes with NNODES=4)
# 32 GPUs x 128 images. Hours and memory: not measured here. See docs/backbones.md.
_base_ = '../mcl_r50_100e.py'

model = dict(backbone=dict(depth=101))
