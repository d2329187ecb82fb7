# BYOL for comparison with pretrain.py: its backbone, data, views, optimiser and iterations.
# mcl-mm compare-pretrain --methods quickstart/pretrain quickstart/byol --data DIR --detector CONFIG
# 0.31 G multiply-adds an image, 24.0 MB of weights. 2 CPU cores, minutes: 64 images, 240 iterations.
_base_ = ['../peers/_base_/byol_r50.py', '_base_/views_64.py', '_base_/adamw_240it.py']

model = dict(
    base_momentum=0.04,  # few updates: the target has to follow faster
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=256, hid_channels=512, out_channels=64),
    head=dict(predictor=dict(in_channels=64, hid_channels=512, out_channels=64)),
)
train_dataloader = dict(dataset=dict(pipeline=_base_.pair_pipeline))
