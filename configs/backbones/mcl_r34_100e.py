# MCL with ResNet-34, trained as mcl_r50_100e.
# NNODES=4 bash tools/dist_train.sh backbones/mcl_r34_100e 8
# 140.0 G multiply-adds an image, 236 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(backbone=dict(depth=34))
