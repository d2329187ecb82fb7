# RetinaNet at a size for two CPU cores, on blood cells: 205 + 87 images in PASCAL VOC's format.
# mcl-mm train quickstart/retinanet_bccd --cfg-options load_from=EXPORT.pth
# 13.3 MB of weights. 2 CPU cores, minutes: 8 images, 15 epochs. BCCD lies in data/bccd.
_base_ = [
    '../transfer/retinanet_r50_fpn_mcl_1x_coco.py',
    '../_base_/schedules/adamw_small_detector.py',
]

# One's own data in this format: these two lines.
data_root = 'data/bccd/'
classes = ('RBC', 'WBC', 'Platelets')

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(depth=18, stem_channels=32, base_channels=32, norm_cfg=norm_cfg),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, norm_cfg=norm_cfg),
    bbox_head=dict(
        num_classes=len(classes),
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        anchor_generator=dict(octave_base_scale=2),
    ),
)

scale = (256, 192)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
dataset = dict(
    _delete_=True,
    type='XMLDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    data_prefix=dict(sub_data_root=''),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        **dataset,
        ann_file='ImageSets/Main/train.txt',
        # Some boxes of this set are empty.
        filter_cfg=dict(filter_empty_gt=True, bbox_min_size=1),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        **dataset,
        ann_file='ImageSets/Main/val.txt',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='area')
test_evaluator = val_evaluator

optim_wrapper = dict(_delete_=True, **_base_.adamw)
param_scheduler = _base_.warmup_cosine
train_cfg = dict(max_epochs=_base_.epochs, val_interval=_base_.epochs)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=_base_.epochs, max_keep_ckpts=1)
)
# The rate above is for this batch.
auto_scale_lr = dict(base_batch_size=8)
