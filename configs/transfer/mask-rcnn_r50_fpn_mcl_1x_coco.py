# Mask R-CNN R50-FPN on COCO, 1x, in the paper's protocol (paper: 42.5 box AP / 38.3 mask AP).
# bash tools/dist_train.sh mask-rcnn_r50_fpn_mcl_1x_coco 8 --cfg-options load_from=EXPORT.pth
# 183 MB of weights. 8 GPUs x 2 images, 12 epochs.
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', '_base_/pretrained_r50.py']

model = dict(
    backbone=_base_.backbone,
    neck=_base_.neck,
    roi_head=dict(bbox_head=_base_.bbox_head, mask_head=dict(norm_cfg=_base_.norm_cfg)),
)
train_pipeline = [
    _base_.multi_scale if step.type == 'Resize' else step for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
custom_hooks = [dict(type='mcl_mm.TransferHook'), dict(type='mcl_mm.PreciseBNHook')]
