# FCOS R50-FPN on COCO, 1x: takes backbone and FPN from C3 on.
# bash tools/dist_train.sh fcos_r50_fpn_gn-head_mcl_1x_coco 8 --cfg-options load_from=EXPORT.pth
# 129 MB of weights. 8 GPUs x 2 images, 12 epochs.
_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', '_base_/pretrained_r50.py']

model = dict(
    # MMDetection's FCOS is made for Caffe's ResNet: BGR, no scaling, stride in the first conv.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(style='pytorch', **_base_.backbone),
    neck=_base_.neck,
)
train_pipeline = [
    _base_.multi_scale if step.type == 'Resize' else step for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone', 'neck')),
    dict(type='mcl_mm.PreciseBNHook'),
]
