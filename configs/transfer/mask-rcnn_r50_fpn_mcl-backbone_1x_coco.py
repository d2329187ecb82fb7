# Mask R-CNN R50-FPN on COCO, 1x, from the backbone alone (paper: 41.1 box AP / 37.2 mask AP).
# bash tools/dist_train.sh THIS_FILE 8 --cfg-options load_from=EXPORT.pth     (of tools/export.py)
# 8 GPUs x 2 images. Hours: not measured here.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone',)),
    dict(type='mcl_mm.PreciseBNHook'),
]
