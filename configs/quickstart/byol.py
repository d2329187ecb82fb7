# BYOL for comparison with pretrain.py: its backbone, data, views, optimiser and iterations.
# python tools/compare_pretrain.py --methods configs/quickstart/{pretrain,byol}.py ...
# A CPU, minutes.
_base_ = ['../peers/_base_/byol_r50.py', '_base_/pair_64.py', '_base_/adamw_120it.py']

model = dict(
    base_momentum=0.04,  # few updates: the target has to follow faster
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=256, hid_channels=512, out_channels=64),
    head=dict(predictor=dict(in_channels=64, hid_channels=512, out_channels=64)),
)
