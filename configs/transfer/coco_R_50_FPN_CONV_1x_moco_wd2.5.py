# The authors' second run of COCO 1x: as mask-rcnn_r50_fpn_mcl_1x_coco, with a quarter of the weight decay.
# bash tools/dist_train.sh THIS_FILE 8 --cfg-options load_from=EXPORT.pth     (of tools/export.py)
# 8 GPUs x 2 images. Hours: not measured here.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

optim_wrapper = dict(optimizer=dict(weight_decay=2.5e-5))
