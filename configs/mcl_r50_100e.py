# MCL as published: ResNet-50 on ImageNet, 100 epochs (paper: 42.5 box AP / 38.3 mask AP, Mask R-CNN 1x).
# bash tools/dist_train.sh configs/mcl_r50_100e.py 8      (on each of 4 nodes with NNODES=4)
# 32 GPUs x 128 images. Hours and memory: not measured here.
_base_ = [
    '_base_/models/mcl_r50.py',
    '_base_/datasets/views_224.py',
    '_base_/schedules/lars_100e.py',
    '_base_/default_runtime.py',
]
sync_bn_group = 'all'  # statistics of all 4096 images, as published
