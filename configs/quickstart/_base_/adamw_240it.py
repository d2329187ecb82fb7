# AdamW for few updates, by iterations, so that a folder of any size takes the same time.
_base_ = '../../_base_/default_runtime.py'

iterations = 240
train_cfg = dict(by_epoch=False, max_iters=iterations)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=500),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=iterations // 12),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=iterations, T_max=iterations),
]
default_hooks = dict(
    logger=dict(interval=5),
    checkpoint=dict(by_epoch=False, interval=iterations, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
env_cfg = dict(cudnn_benchmark=False)
