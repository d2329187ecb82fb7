# The method at a size for two CPU cores: a quarter-width ResNet-18 and sheets of 64 pixels.
# bash tools/quickstart.sh       (or: python tools/train.py configs/quickstart/pretrain.py)
# A CPU, minutes; see README.md.
_base_ = [
    '../_base_/models/mcl_r50.py',
    '../_base_/datasets/views_224.py',
    '../_base_/default_runtime.py',
]

model = dict(
    routed=True,
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, hid_channels=256, embed_channels=64),
    head=dict(in_channels=64, hid_channels=256),
)

side = 64
view_pipeline_q = _base_.view_pipeline_q
view_pipeline_k = _base_.view_pipeline_k
view_pipeline_q[0].scale = side
view_pipeline_k[0].scale = side
multi_view = _base_.train_dataloader.dataset.pipeline[1]
multi_view.transforms = [view_pipeline_q, view_pipeline_k]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(infinite=True),
    dataset=dict(
        data_root='work_dirs/quickstart/scenes/unlabelled',
        pipeline=[
            dict(type='LoadAnyImage'),
            multi_view,
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)

# By iterations, so that a folder of any size takes the same time.
iterations = 240
train_cfg = dict(by_epoch=False, max_iters=iterations)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05), clip_grad=dict(max_norm=500)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=iterations, T_max=iterations),
]
# Few updates: the target has to follow faster.
custom_hooks = [dict(type='TargetUpdateHook', base_momentum=0.96)]
default_hooks = dict(
    logger=dict(interval=5),
    checkpoint=dict(by_epoch=False, interval=iterations, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
env_cfg = dict(cudnn_benchmark=False)
