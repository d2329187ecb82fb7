# The method at a size for two CPU cores: a half-width ResNet-18, sheets of 64 pixels, views at native size.
# mcl-mm train quickstart/pretrain --data DIR     (mcl-mm quickstart runs it)
# 0.44 G multiply-adds an image, 25.9 MB of weights. 2 CPU cores, 3 to 5 minutes: 64 images, 240 iterations.
_base_ = ['_base_/mcl_half_r18.py', '_base_/views_64.py', '_base_/adamw_240it.py']

colours = dict(
    type='PhotometricAugmentation', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
)
model = dict(
    joint='backbone',
    channels_last=True,
    data_preprocessor=dict(
        photometric=[
            dict(colours, blur_prob=1.0, solarize_prob=0.0),
            dict(colours, blur_prob=0.1, solarize_prob=0.2),
        ],
    ),
)
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=_base_.native_pipeline))
