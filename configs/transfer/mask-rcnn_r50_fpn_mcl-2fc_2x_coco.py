# Mask R-CNN R50-FPN on COCO, 2x, with MMDetection's own 2fc box head: takes backbone and FPN.
# bash tools/dist_train.sh THIS_FILE 8 --cfg-options load_from=EXPORT.pth     (of tools/export.py)
# 8 GPUs x 2 images. Hours: not measured here.
_base_ = 'mask-rcnn_r50_fpn_mcl_2x_coco.py'

model = dict(roi_head=dict(bbox_head=dict(type='Shared2FCBBoxHead', norm_cfg=None)))
custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone', 'neck')),
    dict(type='mcl_mm.PreciseBNHook'),
]
