# Ablation: backbone and box-head convs are carried into the detector, the feature pyramid is not.
# bash tools/dist_train.sh mask-rcnn_without-fpn_1x_coco 8 --cfg-options load_from=EXPORT.pth
# 183 MB of weights. 8 GPUs x 2 images, 12 epochs.
_base_ = '../transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py'

custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone', 'box_head')),
    dict(type='mcl_mm.PreciseBNHook'),
]
