# Faster R-CNN R50-FPN on PASCAL VOC, trainval 07+12, tested on test 07.
# bash tools/dist_train.sh faster-rcnn_r50_fpn_mcl_1x_voc0712 8 --cfg-options load_from=EXPORT.pth
# 171 MB of weights. 8 GPUs x 2 images, 4 epochs. An epoch passes the images 3 times.
_base_ = ['mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py', '_base_/pretrained_r50.py']

model = dict(
    backbone=_base_.backbone,
    neck=_base_.neck,
    roi_head=dict(bbox_head=_base_.bbox_head),
)
# MMDetection's, with a warm-up before it: the heads are new, the rest is not.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    *_base_.param_scheduler,
]
custom_hooks = [dict(type='mcl_mm.TransferHook'), dict(type='mcl_mm.PreciseBNHook')]
