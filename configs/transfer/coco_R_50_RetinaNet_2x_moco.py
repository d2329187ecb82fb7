# The authors' RetinaNet on COCO, 2x: as retinanet_r50_fpn_mcl_1x_coco, twice as long.
# bash tools/dist_train.sh coco_R_50_RetinaNet_2x_moco 8 --cfg-options load_from=EXPORT.pth
# 152 MB of weights. 8 GPUs x 2 images, 24 epochs.
_base_ = 'retinanet_r50_fpn_mcl_1x_coco.py'

train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
