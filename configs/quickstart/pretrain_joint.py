# pretrain.py with one pass of the backbone for all sheets of a side, so that batch norm sees all of them.
# mcl-mm train quickstart/pretrain_joint --data DIR
# 0.44 G multiply-adds an image, 25.9 MB of weights. 2 CPU cores, minutes: 64 images, 240 iterations.
_base_ = [
    '_base_/mcl_half_r18.py',
    '_base_/views_64.py',
    '_base_/adamw_240it.py',
    '../_base_/fast.py',
]

model = dict(_base_.fast_model, joint='backbone')
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=_base_.native_pipeline))
