# What small_student.py is compared with: the same small network learns by MCL, without a teacher.
# mcl-mm compare-pretrain --methods distill/small_alone distill/small_student --data DIR --detector CONFIG
# 0.14 G multiply-adds an image, 9.0 MB of weights. 2 CPU cores, minutes: 64 images, 240 iterations.
_base_ = [
    '../quickstart/_base_/mcl_half_r18.py',
    '../quickstart/_base_/views_64.py',
    '../quickstart/_base_/adamw_240it.py',
    '../_base_/fast.py',
]

model = dict(
    **_base_.fast_model,
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
)
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=_base_.native_pipeline))
