# DenseCL for comparison with pretrain.py: its backbone, data, views, optimiser and iterations.
# mcl-mm compare-pretrain --methods quickstart/pretrain quickstart/densecl --data DIR --detector CONFIG
# 0.16 G multiply-adds an image, 24.5 MB of weights. 2 CPU cores, minutes: 64 images, 240 iterations.
_base_ = ['../peers/_base_/densecl_r50.py', '_base_/views_64.py', '_base_/adamw_240it.py']

model = dict(
    # Small data and few updates: the queue must not hold every image twice, the keys follow faster.
    queue_len=512,
    momentum=0.04,
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=256, hid_channels=256),
)
train_dataloader = dict(dataset=dict(pipeline=_base_.pair_pipeline))
