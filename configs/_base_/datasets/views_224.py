# Eight independent views of every image of a folder: four for side q, four for side k.
# One's own images: train_dataloader.dataset.data_root; nested or flat, no labels needed.
crop = dict(
    type='mmpretrain.RandomResizedCrop',
    scale=224,
    crop_ratio_range=(0.2, 1.0),
    backend='pillow',
)
flip_color = [
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[
            dict(
                type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
            )
        ],
    ),
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.114, 0.587, 0.299),
    ),
]
# A level of 10 out of 10 with std 'inf' draws uniformly from the whole range.
blur = dict(type='mmpretrain.GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf')
after_crop_q = [*flip_color, dict(blur, prob=1.0)]
after_crop_k = [
    *flip_color,
    dict(blur, prob=0.1),
    dict(type='mmpretrain.Solarize', thr=128, prob=0.2),
]
view_pipeline_q = [crop, *after_crop_q]
view_pipeline_k = [crop, *after_crop_k]

load_image = dict(type='LoadAnyImage')
multi_view = dict(
    type='mmpretrain.MultiView',
    num_views=[4, 4],
    transforms=[view_pipeline_q, view_pipeline_k],
)
pack_inputs = dict(type='mmpretrain.PackInputs', meta_keys=('img_path',))

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='SeededSampler'),
    collate_fn=dict(type='default_collate'),
    worker_init_fn=dict(type='mcl_mm.seed_worker'),
    dataset=dict(
        type='UnlabelledImages',
        data_root='data/imagenet/train',
        pipeline=[load_image, multi_view, pack_inputs],
    ),
)
