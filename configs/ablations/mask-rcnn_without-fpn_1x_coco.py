# Ablation: backbone and box-head convs are carried into the detector, the feature pyramid is not.
# bash tools/dist_train.sh THIS_FILE 8 --cfg-options load_from=EXPORT.pth     (of tools/export.py)
# As the config it changes, 8 GPUs x 2 images. Hours and memory: not measured here.
_base_ = '../transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py'

custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone', 'box_head')),
    dict(type='mcl_mm.PreciseBNHook'),
]
