# A ResNet-50 learns from DINOv2 ViT-B/14 on 1,000 to 50,000 images of one's own; see docs/distill.md.
# mcl-mm train distill/mcl_r50_dinov2 --data DIR
# 60.6 G multiply-adds an image, 155 MB of weights. 1 GPU x 256 images, 10000 iterations. Not run yet.
_base_ = '../mcl_r50_small.py'

teacher = dict(
    type='Teacher',
    size=224,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    dtype='bfloat16',
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='base',
        patch_size=14,
        img_size=518,  # of its table of positions, which is resized to that of 224
        layer_scale_init_value=1e-5,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='vit-base-p14_dinov2-pre_3rdparty_20230426-ba246503.pth',
            prefix='backbone',
        ),
    ),
)
model = dict(
    type='DistilledMCL',
    teacher=teacher,
    head=dict(type='DistillationHead', temperature=0.1),
    data_preprocessor=dict(type='DistillationDataPreprocessor'),
)
custom_hooks = []
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadAnyImage', min_side=580),
            dict(
                type='TeacherView',
                size=224,
                views=dict(
                    type='NativeViews', side=224, crop_ratio_range=(0.2, 1.0), flip_prob=0.5
                ),
            ),
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
