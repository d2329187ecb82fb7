# A small network learns from the quickstart's: every tile predicts the teacher's embedding of its image.
# mcl-mm train distill/small_student --data work_dirs/quickstart/scenes/unlabelled
# 0.15 G multiply-adds an image, 5.5 MB of weights. 2 CPU cores, minutes: 64 images, 240 iterations.
_base_ = [
    '../quickstart/_base_/mcl_half_r18.py',
    '../quickstart/_base_/views_64.py',
    '../quickstart/_base_/adamw_240it.py',
    '../_base_/fast.py',
]

teacher = dict(
    type='Teacher',
    size=64,
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=18,
        stem_channels=32,
        base_channels=32,
        # What `mcl-mm quickstart` leaves.
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/quickstart/export.pth', prefix='backbone'
        ),
    ),
)
model = dict(
    type='DistilledMCL',
    teacher=teacher,
    joint='backbone',
    channels_last=True,
    data_preprocessor=dict(
        type='DistillationDataPreprocessor', **_base_.fast_model.data_preprocessor
    ),
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
    head=dict(type='DistillationHead', temperature=0.1),
)
custom_hooks = []
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        pipeline=[
            _base_.native_load,
            dict(type='TeacherView', size=teacher['size'], views=_base_.native_views),
            _base_.pack_inputs,
        ],
    ),
)
