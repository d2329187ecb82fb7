# MCL with EfficientNet-B1 of timm, trained as mcl_r50_100e.
# bash tools/dist_train.sh configs/backbones/mcl_timm-efficientnet-b1_100e.py 8
# 32 GPUs x 128 images. Hours and memory: not measured here. See docs/backbones.md.
_base_ = '../mcl_r50_100e.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name='efficientnet_b1',
        features_only=True,
        out_indices=(1, 2, 3, 4),  # strides 4, 8, 16, 32; timm counts from stride 2
    )
)
