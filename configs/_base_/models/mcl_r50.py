# The method as published: ResNet-50, FPN and projector of 256 channels, four levels. The FPN takes its
# input channels from the backbone.
# Batch normalisation is plain here; `sync_bn` makes it synchronised as soon as a run is distributed.
model = dict(
    type='MCL',
    data_preprocessor=dict(
        type='MontageDataPreprocessor',
        # ImageNet, RGB; transforms work on BGR.
        bgr_to_rgb=True,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        montage=dict(type='MontageTransform', ratios=(1, 2, 4, 8), appearances=(1, 1, 1, 2)),
    ),
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=True),
        zero_init_residual=False,
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
            dict(type='Constant', layer='_BatchNorm', val=1),
        ],
    ),
    neck=dict(
        type='MCLNeck',
        out_channels=256,
        hid_channels=2048,
        embed_channels=256,
        num_convs=4,
    ),
    head=dict(
        type='MultiLevelContrastiveHead',
        in_channels=256,
        hid_channels=2048,
        loss_weights=(1 / 2, 1 / 4, 1 / 8, 1 / 8),
        temperature=1.0,
    ),
)
sync_bn = 'torch'
sync_bn_group = 'machine'  # 'all', or a number of processes; see docs/clusters.md
custom_hooks = [dict(type='TargetUpdateHook', base_momentum=0.99)]
