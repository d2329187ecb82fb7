# Mask R-CNN R50-FPN on 1 % of COCO's labels, 120 epochs, in the paper's protocol otherwise.
# FOLD=1 bash tools/dist_train.sh mask-rcnn_r50_fpn_mcl_120e_coco-1percent 8 --cfg-options load_from=EXPORT
# 183 MB of weights. 8 GPUs x 2 images, 120 epochs. FOLD: 1 to 5. `mcl-mm subsets` draws the labels.
_base_ = 'mask-rcnn_r50_fpn_mcl_1x_coco.py'

percent, fold = 1, '{{$FOLD:1}}'
train_dataloader = dict(
    dataset=dict(ann_file=f'semi_anns/instances_train2017.{fold}@{percent}.json')
)
# 10 times the epochs of 1x: they grow about with the root of the missing labels (docs/transfer.md).
train_cfg = dict(max_epochs=120, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=120, by_epoch=True, milestones=[80, 110], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=10))
work_dir = f'work_dirs/mask-rcnn_r50_fpn_mcl_120e_coco-{percent}percent/fold{fold}'
