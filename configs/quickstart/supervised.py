# A supervised classifier for comparison with pretrain.py: its backbone, views, optimiser and iterations.
# python tools/compare_pretrain.py --methods configs/quickstart/{pretrain,supervised}.py ...
# A CPU, minutes. Images in a folder for each class; num_classes is their number.
_base_ = ['../peers/_base_/supervised_r50.py', '_base_/views_64.py', '_base_/adamw_120it.py']

model = dict(
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    head=dict(in_channels=256, num_classes=1000),
)
train_dataloader = dict(
    dataset=dict(
        type='LabelledImages',
        pipeline=[
            dict(type='LoadAnyImage'),
            dict(type='RandomChoice', transforms=[_base_.view_pipeline_q, _base_.view_pipeline_k]),
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
