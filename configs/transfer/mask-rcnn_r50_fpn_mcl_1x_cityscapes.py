# Mask R-CNN R50-FPN on Cityscapes, fine annotations, 64 epochs.
# bash tools/dist_train.sh mask-rcnn_r50_fpn_mcl_1x_cityscapes 8 --cfg-options load_from=EXPORT.pth
# 182 MB of weights. 8 GPUs x 1 image, 8 epochs. An epoch passes the images 8 times. Needs cityscapesscripts.
_base_ = ['mmdet::cityscapes/mask-rcnn_r50_fpn_1x_cityscapes.py', '_base_/pretrained_r50.py']

model = dict(
    backbone=_base_.backbone,
    neck=_base_.neck,
    roi_head=dict(bbox_head=_base_.bbox_head, mask_head=dict(norm_cfg=_base_.norm_cfg)),
)
custom_hooks = [dict(type='mcl_mm.TransferHook'), dict(type='mcl_mm.PreciseBNHook')]
load_from = None  # MMDetection starts from a detector trained on COCO
auto_scale_lr = dict(base_batch_size=8)  # what its learning rate is for
