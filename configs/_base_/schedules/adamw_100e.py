# AdamW for backbones with layer norm, 100 epochs at 4096 images a step; another batch size scales the rate.
# Rate (1.5e-4 for 256 images) and decay are those that MoCo v3 (arXiv 2104.02057) has for transformers;
# warm-up and clipping are those of lars_100e.py. Not tuned for MCL.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.999), weight_decay=0.1),
    clip_grad=dict(max_norm=500),
    # Neither norms, biases and scales of layers nor embeddings of positions decay.
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            'relative_position_bias_table': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.0),
        },
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=4096)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=100,
        T_max=100,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=100)
