# MCL on a ResNet-18 of half width. Few updates: the target follows faster.
_base_ = '../../_base_/models/mcl_r50.py'

model = dict(
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, hid_channels=256, embed_channels=64),
    head=dict(in_channels=64, hid_channels=256),
)
custom_hooks = [dict(type='TargetUpdateHook', base_momentum=0.96)]
