# The method at a size for two CPU cores: a half-width ResNet-18 and sheets of 64 pixels.
# bash tools/quickstart.sh       (or: python tools/train.py configs/quickstart/pretrain.py)
# A CPU, minutes; see README.md.
_base_ = [
    '../_base_/models/mcl_r50.py',
    '_base_/views_64.py',
    '_base_/adamw_240it.py',
]

model = dict(
    joint='none',
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, hid_channels=256, embed_channels=64),
    head=dict(in_channels=64, hid_channels=256),
)
# Few updates: the target has to follow faster.
custom_hooks = [dict(type='TargetUpdateHook', base_momentum=0.96)]
