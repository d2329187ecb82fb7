# MCL as published: ResNet-50 on ImageNet, 100 epochs (paper: 42.5 box AP / 38.3 mask AP, Mask R-CNN 1x).
# NNODES=4 bash tools/dist_train.sh mcl_r50_100e 8
# 147.0 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = [
    '_base_/models/mcl_r50.py',
    '_base_/datasets/views_224.py',
    '_base_/schedules/lars_100e.py',
    '_base_/default_runtime.py',
]
sync_bn_group = 'all'  # statistics of all 4096 images, as published
