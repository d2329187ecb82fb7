# Mask R-CNN R50-FPN on COCO, 1x, with MMDetection's own 2fc box head: takes backbone and FPN.
# bash tools/dist_train.sh mask-rcnn_r50_fpn_mcl-2fc_1x_coco 8 --cfg-options load_from=EXPORT.pth
# 178 MB of weights. 8 GPUs x 2 images, 12 epochs.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

model = dict(roi_head=dict(bbox_head=dict(type='Shared2FCBBoxHead', norm_cfg=None)))
custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone', 'neck')),
    dict(type='mcl_mm.PreciseBNHook'),
]
