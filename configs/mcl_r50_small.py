# MCL for 1,000 to 50,000 images of one's own on one GPU, by iterations; see docs/small_sets.md.
# mcl-mm train mcl_r50_small --data DIR
# 48.8 G multiply-adds an image, 260 MB of weights. 1 GPU x 256 images, 10000 iterations.
_base_ = [
    '_base_/models/mcl_r50.py',
    '_base_/datasets/views_224.py',
    '_base_/default_runtime.py',
    '_base_/fast.py',
]

model = _base_.fast_model
train_dataloader = dict(
    batch_size=256,  # 64 to 512
    sampler=dict(infinite=True),
    dataset=dict(pipeline=_base_.fast_pipeline),
)

# Change it here, in a copy: warm-up, cosine and target follow. docs/small_sets.md says by how much.
iterations = 10000
train_cfg = dict(by_epoch=False, max_iters=iterations)
# LARS is made for batches of thousands; AdamW for small ones, with its usual rate for 256 images.
# bfloat16 has the range of float32: no loss scaler. NonFiniteHook checks, and waits, at every step.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=dict(enabled=False),
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=500),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=max(2, iterations // 10)),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=iterations, T_max=iterations),
]
# The published target looks back over 100 of 31,200 updates, 1 / (1 - 0.99). This one over the same
# share of fewer: 32 of 10,000; and never over fewer than 25, which short runs of the quickstart do well with.
custom_hooks = [dict(type='TargetUpdateHook', base_momentum=max(0.96, 1 - 312 / iterations))]

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=max(1, iterations // 20)),
    runtime_info=dict(type='LazyRuntimeInfoHook'),
)
log_processor = dict(by_epoch=False)
