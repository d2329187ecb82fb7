# MCL with ResNeXt-50 32x4d, trained as mcl_r50_100e.
# NNODES=4 bash tools/dist_train.sh backbones/mcl_resnext50-32x4d_100e 8
# 148.5 G multiply-adds an image, 256 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(backbone=dict(type='mmpretrain.ResNeXt', groups=32, width_per_group=4))
