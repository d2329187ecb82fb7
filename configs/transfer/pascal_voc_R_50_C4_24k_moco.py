# Faster R-CNN R50-C4 on PASCAL VOC, trainval 07+12, tested on test 07, in MoCo's protocol.
# bash tools/dist_train.sh pascal_voc_R_50_C4_24k_moco 8 --cfg-options load_from=EXPORT.pth
# 133 MB of weights. 8 GPUs x 2 images, 24000 iterations. Takes the backbone; stage 4 works on regions.
_base_ = 'mmdet::pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py'

custom_imports = dict(imports=['mcl_mm'])
norm_cfg = dict(type='SyncBN', requires_grad=True)
stage = dict(norm_cfg=norm_cfg, norm_eval=False, style='pytorch', init_cfg=None)
model = dict(
    # MMDetection's C4 is made for Caffe's ResNet: BGR, no scaling, stride in the first conv.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(frozen_stages=-1, **stage),
    roi_head=dict(shared_head=dict(type='mcl_mm.ResLayerExtraNorm', **stage)),
)
# The two years name their type otherwise, which ConcatDataset refuses to mix.
train_dataloader = dict(dataset=dict(ignore_keys=['dataset_type']))
train_cfg = dict(max_iters=24000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(
        type='MultiStepLR', begin=0, end=24000, by_epoch=False, milestones=[18000, 22000], gamma=0.1
    ),
]
# Papers report the mean over these overlaps (mAP), AP50 and AP75.
val_evaluator = dict(iou_thrs=[0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
test_evaluator = val_evaluator
custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone',)),
    dict(type='mcl_mm.PreciseBNHook'),
]
