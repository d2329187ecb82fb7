# RetinaNet R50-FPN on COCO, 1x: takes backbone and FPN from C3 on.
# bash tools/dist_train.sh retinanet_r50_fpn_mcl_1x_coco 8 --cfg-options load_from=EXPORT.pth
# 152 MB of weights. 8 GPUs x 2 images, 12 epochs.
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '_base_/pretrained_r50.py']

model = dict(backbone=_base_.backbone, neck=_base_.neck)
train_pipeline = [
    _base_.multi_scale if step.type == 'Resize' else step for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone', 'neck')),
    dict(type='mcl_mm.PreciseBNHook'),
]
