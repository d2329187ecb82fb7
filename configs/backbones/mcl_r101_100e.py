# MCL with ResNet-101, trained as mcl_r50_100e.
# NNODES=4 bash tools/dist_train.sh backbones/mcl_r101_100e 8
# 186.9 G multiply-adds an image, 412 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(backbone=dict(depth=101))
