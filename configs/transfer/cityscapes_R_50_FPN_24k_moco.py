# Mask R-CNN R50-FPN on Cityscapes with the stock two-layer box head, 24,000 iterations.
# bash tools/dist_train.sh cityscapes_R_50_FPN_24k_moco 8 --cfg-options load_from=EXPORT.pth
# 176 MB of weights. 8 GPUs x 1 image, 24000 iterations. Evaluation needs cityscapesscripts.
_base_ = ['mmdet::cityscapes/mask-rcnn_r50_fpn_1x_cityscapes.py', '_base_/pretrained_r50.py']

model = dict(backbone=_base_.backbone, neck=_base_.neck)
multi_scale = dict(_base_.multi_scale, scales=[(2048, side) for side in range(800, 1025, 32)])
train_pipeline = [
    multi_scale if step.type == 'RandomResize' else step for step in _base_.train_pipeline
]
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(dataset=dict(pipeline=train_pipeline)),
)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=24000, val_interval=8000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=24000, by_epoch=False, milestones=[18000], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=8000))
log_processor = dict(by_epoch=False)
custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone', 'neck')),
    dict(type='mcl_mm.PreciseBNHook'),
]
load_from = None  # MMDetection starts from a detector trained on COCO
auto_scale_lr = dict(base_batch_size=8)  # what its learning rate is for
