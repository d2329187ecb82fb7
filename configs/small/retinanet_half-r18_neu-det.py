# RetinaNet for six kinds of defects of steel (NEU-DET), on the network of quickstart/pretrain.
# mcl-mm train small/retinanet_half-r18_neu-det --cfg-options load_from=EXPORT.pth
# 13.5 MB of weights. 2 CPU cores: 16 images, 600 iterations.
_base_ = [
    '../transfer/retinanet_r50_fpn_mcl_1x_coco.py',
    '../_base_/datasets/neu_det_128.py',
    '../_base_/schedules/adamw_small_detector.py',
]
iterations = 600  # whatever the number of labels: starts and folds cost the same

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(depth=18, stem_channels=32, base_channels=32, norm_cfg=norm_cfg),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, norm_cfg=norm_cfg),
    bbox_head=dict(
        num_classes=len(_base_.defects),
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        # Scratches are long and narrow.
        anchor_generator=dict(octave_base_scale=2, ratios=[0.2, 0.5, 1.0, 2.0, 5.0]),
    ),
)

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
custom_hooks = [
    dict(type='mcl_mm.TransferHook', parts=('backbone', 'neck')),
    dict(type='mcl_mm.PreciseBNHook', num_batches=25),
]
# The rate above is for this batch.
auto_scale_lr = dict(base_batch_size=16)
