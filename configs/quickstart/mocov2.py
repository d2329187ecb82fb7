# MoCo v2 for comparison with pretrain.py: its backbone, data, views, optimiser and iterations.
# python tools/compare_pretrain.py --methods configs/quickstart/{pretrain,mocov2}.py ...
# A CPU, minutes.
_base_ = ['../peers/_base_/mocov2_r50.py', '_base_/pair_64.py', '_base_/adamw_120it.py']

model = dict(
    # Small data and few updates: the queue must not hold every image twice, the keys follow faster.
    queue_len=512,
    momentum=0.04,
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=256, hid_channels=256),
)
