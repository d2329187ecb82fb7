# The method at a size for two CPU cores: a half-width ResNet-18 and sheets of 64 pixels.
# mcl-mm quickstart                  (or: mcl-mm train quickstart/pretrain --data DIR)
# Two CPU cores, minutes: README.md. Views at the size they are pasted at, colours and blur in batches.
_base_ = ['_base_/mcl_half_r18.py', '_base_/views_64.py', '_base_/adamw_120it.py']

colours = dict(
    type='PhotometricAugmentation', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
)
model = dict(
    joint='none',
    channels_last=True,
    data_preprocessor=dict(
        photometric=[
            dict(colours, blur_prob=1.0, solarize_prob=0.0),
            dict(colours, blur_prob=0.1, solarize_prob=0.2),
        ],
    ),
)
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        pipeline=[
            dict(type='LoadAnyImage', min_side=166),  # 64 / sqrt(0.2 * 3 / 4)
            dict(type='NativeViews', side=64, crop_ratio_range=(0.2, 1.0), flip_prob=0.5),
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
