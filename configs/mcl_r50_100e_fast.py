# mcl_r50_100e for a fraction of the compute: routing, native views, augmentation on the device, bfloat16.
# bash tools/dist_train.sh configs/mcl_r50_100e_fast.py 8      (on each of 4 nodes with NNODES=4)
# 32 GPUs x 128 images. Hours and memory: not measured here. See docs/performance.md for what changes.
_base_ = 'mcl_r50_100e.py'

sync_bn_group = 'machine'  # what waits for other machines is the gradients and one all-gather

colours = dict(
    type='PhotometricAugmentation', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
)
model = dict(
    joint='none',
    channels_last=True,
    data_preprocessor=dict(
        non_blocking=True,
        photometric=[
            dict(colours, blur_prob=1.0, solarize_prob=0.0),
            dict(colours, blur_prob=0.1, solarize_prob=0.2),
        ],
    ),
)

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            # A square image of 580 pixels: its smallest crop, a fifth of the area at a ratio of 4 to
            # 3, has a side of 580 * sqrt(0.2 * 3 / 4) = 224. Larger JPEGs are decoded reduced.
            dict(type='LoadAnyImage', min_side=580),
            dict(type='NativeViews', side=224, crop_ratio_range=(0.2, 1.0), flip_prob=0.5),
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)

# bfloat16 has the range of float32: no loss scaler. NonFiniteHook checks, and waits, at every step.
optim_wrapper = dict(
    dtype='bfloat16', loss_scale=dict(_delete_=True, enabled=False), optimizer=dict(type='LARS')
)
default_hooks = dict(runtime_info=dict(type='LazyRuntimeInfoHook'))
