# Mask R-CNN at a size for two CPU cores, shaped like the network of pretrain.py.
# mcl-mm train quickstart/finetune --cfg-options load_from=EXPORT.pth     (mcl-mm quickstart runs it)
# 16.3 MB of weights. 2 CPU cores, minutes: 4 images, 15 epochs.
_base_ = [
    '../transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py',
    '../_base_/schedules/adamw_small_detector.py',
    '_base_/mask-rcnn_half_r18.py',
]

data_root = 'work_dirs/quickstart/scenes/'
classes = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')
model = _base_.half_r18
model.roi_head.bbox_head.num_classes = len(classes)
model.roi_head.mask_head.num_classes = len(classes)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,  # small images: their run keeps one core
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=classes),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator

epochs = 15
optim_wrapper = dict(_delete_=True, **_base_.adamw)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        T_max=epochs,
        by_epoch=True,
        begin=0,
        end=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=epochs, max_keep_ckpts=1))
# The rate above is for this batch.
auto_scale_lr = dict(base_batch_size=4)
