# 100 epochs as an MCL run has, at mmpretrain's rate for these methods; their own recipes take 200.
_base_ = '../../_base_/default_runtime.py'

optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='SGD', lr=0.03, weight_decay=1e-4, momentum=0.9),
)
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=100,
        by_epoch=True,
        begin=0,
        end=100,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=100)
