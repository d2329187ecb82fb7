# The authors' second run of COCO 1x: as mask-rcnn_r50_fpn_mcl_1x_coco, with a quarter of the weight decay.
# bash tools/dist_train.sh coco_R_50_FPN_CONV_1x_moco_wd2.5 8 --cfg-options load_from=EXPORT.pth
# 183 MB of weights. 8 GPUs x 2 images, 12 epochs.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

optim_wrapper = dict(optimizer=dict(weight_decay=2.5e-5))
