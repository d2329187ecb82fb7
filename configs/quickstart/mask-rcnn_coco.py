# Mask R-CNN at a size for two CPU cores, on COCO or one's own data in its format, 256 pixels.
# mcl-mm train quickstart/mask-rcnn_coco --cfg-options load_from=EXPORT.pth
# 16.7 MB of weights. 2 CPU cores, minutes: 4 images, 15 epochs. 100 images: a test that all parts work.
_base_ = [
    '../transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py',
    '../_base_/schedules/adamw_small_detector.py',
    '_base_/mask-rcnn_half_r18.py',
]

model = _base_.half_r18
resize = dict(type='Resize', scale=(256, 256), keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

# Your own data in COCO's format: this folder, the paths below, classes as dict(classes=('a', 'b')).
data_root = 'data/coco/'
metainfo = dict()
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

optim_wrapper = dict(_delete_=True, **_base_.adamw)
param_scheduler = _base_.warmup_cosine
train_cfg = dict(max_epochs=_base_.epochs, val_interval=_base_.epochs)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=_base_.epochs, max_keep_ckpts=1)
)
# The rate above is for this batch.
auto_scale_lr = dict(base_batch_size=4)
