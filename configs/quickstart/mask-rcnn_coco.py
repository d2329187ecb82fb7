# Mask R-CNN at a size for two CPU cores, on COCO or one's own data in its format, 256 pixels.
# python tools/train.py configs/quickstart/mask-rcnn_coco.py --cfg-options load_from=EXPORT.pth
# A CPU; a slice of 100 images takes minutes and teaches nothing but that all parts work.
_base_ = 'finetune.py'

data_root = 'data/coco/'
model = dict(roi_head=dict(bbox_head=dict(num_classes=80), mask_head=dict(num_classes=80)))

size = (256, 256)
train_pipeline = _base_.train_pipeline
train_pipeline.insert(2, dict(type='Resize', scale=size, keep_ratio=True))
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = size
coco = dict(data_root=data_root, metainfo=dict(_delete_=True))
train_dataloader = dict(
    dataset=dict(
        **coco,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        **coco,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
