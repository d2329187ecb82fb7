# A supervised classifier for comparison with pretrain.py: its backbone, views, optimiser and iterations.
# mcl-mm compare-pretrain --methods quickstart/pretrain quickstart/supervised --data DIR --detector CONFIG
# 0.11 G multiply-adds an image, 12.2 MB of weights. 2 CPU cores, minutes: 64 images, 240 iterations.
_base_ = ['../peers/_base_/supervised_r50.py', '_base_/views_64.py', '_base_/adamw_240it.py']

model = dict(
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    # num_classes: as many as DIR has folders.
    head=dict(in_channels=256, num_classes=1000),
)
train_dataloader = dict(
    dataset=dict(
        type='LabelledImages',
        pipeline=[
            _base_.load_image,
            dict(type='RandomChoice', transforms=[_base_.view_pipeline_q, _base_.view_pipeline_k]),
            _base_.pack_inputs,
        ],
    ),
)
