# Whole images with labels, one view each: how well a classifier tells them. A folder for each class.
test_dataloader = dict(
    batch_size=128,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='LabelledImages',
        data_root='data/imagenet/val',
        test_mode=True,
        pipeline=[
            dict(type='LoadAnyImage'),
            dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', backend='pillow'),
            dict(type='mmpretrain.CenterCrop', crop_size=224),
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
test_cfg = dict()
test_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
