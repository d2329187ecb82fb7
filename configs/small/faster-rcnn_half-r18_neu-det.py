# Faster R-CNN for six kinds of defects of steel (NEU-DET), on the network of quickstart/pretrain.
# mcl-mm train small/faster-rcnn_half-r18_neu-det --cfg-options load_from=EXPORT.pth
# 15.9 MB of weights. 2 CPU cores: 8 images, 6000 iterations. Nobody has run it to its end yet.
_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    '../transfer/_base_/pretrained_r50.py',
    '../_base_/schedules/adamw_small_detector.py',
    '../quickstart/_base_/mask-rcnn_half_r18.py',
]

data_root = 'data/neu_det/'
classes = ('crazing', 'inclusion', 'patches', 'pitted_surface', 'rolled-in_scale', 'scratches')
side = 128
iterations = 6000  # whatever the number of labels: starts and folds cost the same

model = _base_.half_r18
model.backbone.update(_base_.backbone, **model.backbone)
del model.roi_head.mask_roi_extractor, model.roi_head.mask_head
# Scratches are long and narrow.
model.rpn_head.anchor_generator.ratios = [0.2, 0.5, 1.0, 2.0, 5.0]
model.roi_head.bbox_head.update(type='Shared4Conv1FCBBoxHead', num_classes=len(classes))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(side, side), keep_ratio=True),
    dict(type='RandomFlip', prob=[0.25, 0.25], direction=['horizontal', 'vertical']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(side, side), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
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
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=classes),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

optim_wrapper = dict(_delete_=True, **_base_.adamw)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=iterations, T_max=iterations),
]
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations // 6
)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(by_epoch=False, interval=iterations, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mcl_mm.TransferHook'), dict(type='mcl_mm.PreciseBNHook', num_batches=50)]
# The rate above is for this batch.
auto_scale_lr = dict(base_batch_size=8)
