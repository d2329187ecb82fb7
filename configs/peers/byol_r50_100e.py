# BYOL for comparison: mmpretrain's model and rates, an MCL run's data, views and epochs.
# NNODES=2 bash tools/dist_train.sh peers/byol_r50_100e 8
# 32.5 G multiply-adds an image, 273 MB of weights. 16 GPUs x 256 images, 100 epochs.
_base_ = ['_base_/byol_r50.py', '_base_/pair_224.py', '_base_/cosine_100e.py']

train_dataloader = dict(batch_size=256)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='mmpretrain.LARS', lr=4.8, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(
        custom_keys={
            'bn': dict(decay_mult=0, lars_exclude=True),
            'bias': dict(decay_mult=0, lars_exclude=True),
            'downsample.1': dict(decay_mult=0, lars_exclude=True),
        }
    ),
)
auto_scale_lr = dict(base_batch_size=4096)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=90,
        by_epoch=True,
        begin=10,
        end=100,
        convert_to_iter_based=True,
    ),
]
