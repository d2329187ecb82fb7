# NEU-DET in COCO's format at 128 pixels: six kinds of defects of steel, 1440 + 360 photographs.
# Labels and files must be of one size (docs/bad_data.md). configs/small takes these parts by name.
neu_det = 'data/neu_det/'
defects = ('crazing', 'inclusion', 'patches', 'pitted_surface', 'rolled-in_scale', 'scratches')
side = 128

defects_train = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
    dataset=dict(
        data_root=neu_det,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=defects),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(side, side), keep_ratio=True),
            dict(
                type='RandomFlip',
                prob=[0.25, 0.25, 0.25],
                direction=['horizontal', 'vertical', 'diagonal'],
            ),
            dict(type='PackDetInputs'),
        ],
    ),
)
defects_val = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        data_root=neu_det,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=defects),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(side, side), keep_ratio=True),
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ],
    ),
)
defects_evaluator = dict(ann_file=neu_det + 'annotations/instances_val.json')
