# Faster R-CNN for six kinds of defects of steel (NEU-DET), on the network of quickstart/pretrain.
# mcl-mm train small/faster-rcnn_half-r18_neu-det --cfg-options load_from=EXPORT.pth
# 15.9 MB of weights. 2 CPU cores: 16 images, 600 iterations.
_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    '../transfer/_base_/pretrained_r50.py',
    '../_base_/datasets/neu_det_128.py',
    '../_base_/schedules/adamw_small_detector.py',
    '../quickstart/_base_/mask-rcnn_half_r18.py',
]
iterations = 600  # whatever the number of labels: starts and folds cost the same

model = _base_.half_r18
model.backbone.update(_base_.backbone, **model.backbone)
del model.roi_head.mask_roi_extractor, model.roi_head.mask_head
# Scratches are long and narrow.
model.rpn_head.anchor_generator.ratios = [0.2, 0.5, 1.0, 2.0, 5.0]
model.roi_head.bbox_head.update(type='Shared4Conv1FCBBoxHead', num_classes=len(_base_.defects))

train_dataloader = _base_.defects_train
val_dataloader = test_dataloader = _base_.defects_val
val_evaluator = test_evaluator = _base_.defects_evaluator

optim_wrapper = dict(_delete_=True, **_base_.adamw)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=iterations, T_max=iterations),
]
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations
)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=iterations, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mcl_mm.TransferHook'), dict(type='mcl_mm.PreciseBNHook', num_batches=25)]
# The rate above is for this batch.
auto_scale_lr = dict(base_batch_size=16)
