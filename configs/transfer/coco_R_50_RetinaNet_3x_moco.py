# The authors' RetinaNet on COCO, 3x: as retinanet_r50_fpn_mcl_1x_coco, three times as long.
# bash tools/dist_train.sh coco_R_50_RetinaNet_3x_moco 8 --cfg-options load_from=EXPORT.pth
# 152 MB of weights. 8 GPUs x 2 images, 36 epochs.
_base_ = 'retinanet_r50_fpn_mcl_1x_coco.py'

train_cfg = dict(max_epochs=36)
# After 210 and 250 of 270 thousand iterations, as in the authors' Mask R-CNN 3x.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[28, 33], gamma=0.1),
]
