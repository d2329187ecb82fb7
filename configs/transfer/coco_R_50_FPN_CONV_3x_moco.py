# The authors' COCO 3x: as mask-rcnn_r50_fpn_mcl_1x_coco, three times as long.
# bash tools/dist_train.sh coco_R_50_FPN_CONV_3x_moco 8 --cfg-options load_from=EXPORT.pth
# 183 MB of weights. 8 GPUs x 2 images, 36 epochs.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

train_cfg = dict(max_epochs=36)
# Theirs drops after 210 and 250 of 270 thousand iterations.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[28, 33], gamma=0.1),
]
