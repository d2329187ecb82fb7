# LARS, 100 epochs at 4096 images a step; another batch size scales the learning rate by itself.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    # eps is mmpretrain's own addition to the denominator of the layer's rate.
    optimizer=dict(
        type='mmpretrain.LARS', lr=16.0, momentum=0.9, weight_decay=1e-5, eta=1e-3, eps=0.0
    ),
    clip_grad=dict(max_norm=500),
    # Norms and biases: no decay, no layer adaptation.
    paramwise_cfg=dict(
        custom_keys={
            'bn': dict(decay_mult=0, lars_exclude=True),
            'downsample.1': dict(decay_mult=0, lars_exclude=True),
            'bias': dict(decay_mult=0, lars_exclude=True),
        }
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=4096)

# The two rates multiply. On ImageNet an epoch is 312 iterations, so the cosine takes 31200 and the
# warm-up is over at iteration 3127; on other data both keep their share of the epochs.
# LinearLR reaches its end factor one iteration before `end`: 10.0257 * 312 = 3128.
warmup = dict(
    type='LinearLR',
    start_factor=1e-4,
    by_epoch=True,
    begin=0,
    end=10.0257,
    convert_to_iter_based=True,
)
cosine = dict(
    type='CosineAnnealingLR',
    eta_min=1e-4,
    by_epoch=True,
    begin=0,
    end=100,
    T_max=100,
    convert_to_iter_based=True,
)
param_scheduler = [warmup, cosine]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=100)
