# pretrain.py with views at native size, colours and blur in batches: mcl_r50_100e_fast.py at this size.
# python tools/train.py configs/quickstart/pretrain_fast.py
# A CPU, minutes.
_base_ = 'pretrain.py'

colours = dict(
    type='PhotometricAugmentation', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
)
model = dict(
    data_preprocessor=dict(
        photometric=[
            dict(colours, blur_prob=1.0, solarize_prob=0.0),
            dict(colours, blur_prob=0.1, solarize_prob=0.2),
        ],
    ),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadAnyImage', min_side=166),  # 64 / sqrt(0.2 * 3 / 4)
            dict(type='NativeViews', side=64, crop_ratio_range=(0.2, 1.0), flip_prob=0.5),
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
