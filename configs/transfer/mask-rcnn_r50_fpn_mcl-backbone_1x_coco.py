# Mask R-CNN R50-FPN on COCO, 1x, from the backbone alone (paper: 41.1 box AP / 37.2 mask AP).
# bash tools/dist_train.sh mask-rcnn_r50_fpn_mcl-backbone_1x_coco 8 --cfg-options load_from=EXPORT.pth
# 183 MB of weights. 8 GPUs x 2 images, 12 epochs.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone',)),
    dict(type='mcl_mm.PreciseBNHook'),
]
