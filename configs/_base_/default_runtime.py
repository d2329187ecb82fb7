default_scope = 'mcl_mm'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', interval=4, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    bad_images=dict(type='BadImagesHook', max_share=0.01),
    value_range=dict(type='ValueRangeHook'),
    monitor=dict(type='MonitorHook'),
    exact_resume=dict(type='ExactResumeHook'),
    nonfinite=dict(type='NonFiniteHook'),
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# Montages and views differ between processes.
randomness = dict(seed=0, diff_rank_seed=True)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
# Single batches retrieve by luck, so their accuracy is averaged too.
log_processor = dict(
    type='LevelLogProcessor', window_size=20, mean_pattern=r'.*(loss|time|grad_norm|acc_[qk]).*'
)
log_level = 'INFO'
load_from = None
resume = False
