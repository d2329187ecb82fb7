# MCL for 1,000 to 10,000 images of one's own on two CPU cores, by iterations; see docs/small_sets.md.
# mcl-mm train mcl_r18_small --data DIR
# 0.22 G multiply-adds an image, 25.9 MB of weights. 2 CPU cores, 80 minutes: 64 images, 10000 iterations.
_base_ = 'mcl_r50_small.py'

# Half the width of a ResNet-18, sheets of 64 pixels. Each image is learnt in one direction: in the
# same time twice as many updates.
model = dict(
    symmetric=False,
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, hid_channels=256, embed_channels=64),
    head=dict(in_channels=64, hid_channels=256),
)
load, views, pack = _base_.fast_pipeline
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    dataset=dict(pipeline=[dict(load, min_side=166), dict(views, side=64), pack]),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=20))
