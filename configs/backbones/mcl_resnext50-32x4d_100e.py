# MCL with ResNeXt-50 32x4d, trained as mcl_r50_100e.
# bash tools/dist_train.sh configs/backbones/mcl_resnext50-32x4d_100e.py 8
# 32 GPUs x 128 images. Hours and memory: not measured here. See docs/backbones.md.
_base_ = '../mcl_r50_100e.py'

model = dict(backbone=dict(type='mmpretrain.ResNeXt', groups=32, width_per_group=4))
