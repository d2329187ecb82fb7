# Mask R-CNN R50-FPN on 5 % of COCO's labels, 60 epochs, in the paper's protocol otherwise.
# FOLD=1 bash tools/dist_train.sh mask-rcnn_r50_fpn_mcl_60e_coco-5percent 8 --cfg-options load_from=EXPORT
# 183 MB of weights. 8 GPUs x 2 images, 60 epochs. FOLD: 1 to 5. `mcl-mm subsets` draws the labels.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

percent, fold = 5, '{{$FOLD:1}}'
train_dataloader = dict(
    dataset=dict(ann_file=f'semi_anns/instances_train2017.{fold}@{percent}.json')
)
# 5 times the epochs of 1x: they grow about with the root of the missing labels (docs/transfer.md).
train_cfg = dict(max_epochs=60, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=60, by_epoch=True, milestones=[40, 55], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=5))
work_dir = f'work_dirs/mask-rcnn_r50_fpn_mcl_60e_coco-{percent}percent/fold{fold}'
