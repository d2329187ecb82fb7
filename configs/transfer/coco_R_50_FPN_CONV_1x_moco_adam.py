# Mask R-CNN R50-FPN on COCO, 1x, as SparK fine-tunes: AdamW, and lower rates towards the image.
# bash tools/dist_train.sh coco_R_50_FPN_CONV_1x_moco_adam 8 --cfg-options load_from=EXPORT.pth
# 183 MB of weights. 8 GPUs x 2 images, 12 epochs.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

lr_decay = 0.6
# How often a part's rate is decayed: from 1 in the backbone's last stage to 6 in its stem.
depths = {
    'conv1': 6,
    'bn1': 6,
    **{f'layer1.{block}': 5 for block in range(3)},
    **{f'layer2.{block}': 4 for block in range(4)},
    **{f'layer3.{block}': 3 if block < 3 else 2 for block in range(6)},
    **{f'layer4.{block}': 1 for block in range(3)},
}
rates = {f'backbone.{part}.': dict(lr_mult=lr_decay**depth) for part, depth in depths.items()}
# The same for norms, without weight decay. The longer key counts.
norms = {
    **{f'{key}bn': dict(decay_mult=0.0, **rate) for key, rate in rates.items()},
    **{f'{key}downsample.1.': dict(decay_mult=0.0, **rate) for key, rate in rates.items()},
    'backbone.bn1.': dict(decay_mult=0.0, **rates['backbone.bn1.']),
}
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2.5e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={**rates, **norms}, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.25),
]
multi_scale = dict(_base_.multi_scale, scales=[(1333, side) for side in range(480, 897, 32)])
train_pipeline = [
    multi_scale if step.type == 'RandomChoiceResize' else step for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
