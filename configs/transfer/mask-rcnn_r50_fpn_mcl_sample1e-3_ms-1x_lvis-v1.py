# Mask R-CNN R50-FPN on LVIS v1, 1x.
# bash tools/dist_train.sh mask-rcnn_r50_fpn_mcl_sample1e-3_ms-1x_lvis-v1 8 --cfg-options load_from=EXPORT
# 207 MB of weights. 8 GPUs x 2 images, 12 epochs. Needs lvis, see docs/transfer.md.
_base_ = ['mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py', '_base_/pretrained_r50.py']

model = dict(
    backbone=_base_.backbone,
    neck=_base_.neck,
    roi_head=dict(bbox_head=_base_.bbox_head, mask_head=dict(norm_cfg=_base_.norm_cfg)),
)
custom_hooks = [dict(type='mcl_mm.TransferHook'), dict(type='mcl_mm.PreciseBNHook')]
