# The published method for a fraction of the compute: recipes take these parts by name.
colours = dict(
    type='PhotometricAugmentation', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
)
fast_model = dict(
    joint='backbone',
    channels_last=True,
    data_preprocessor=dict(
        non_blocking=True,
        photometric=[
            dict(colours, blur_prob=1.0, solarize_prob=0.0),
            dict(colours, blur_prob=0.1, solarize_prob=0.2),
        ],
    ),
)
fast_pipeline = [
    # A square image of 580 pixels: its smallest crop, a fifth of the area at a ratio of 4 to
    # 3, has a side of 580 * sqrt(0.2 * 3 / 4) = 224. Larger JPEGs are decoded reduced.
    dict(type='LoadAnyImage', min_side=580),
    dict(type='NativeViews', side=224, crop_ratio_range=(0.2, 1.0), flip_prob=0.5),
    dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
]
