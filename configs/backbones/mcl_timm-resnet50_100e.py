# MCL with timm's ResNet-50, trained as mcl_r50_100e: an example for other models of timm.
# bash tools/dist_train.sh configs/backbones/mcl_timm-resnet50_100e.py 8  (NNODES=4 on 4 nodes)
# 32 GPUs x 128 images. Hours and memory: not measured here. See docs/backbones.md.
_base_ = '../mcl_r50_100e.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name='resnet50',
        features_only=True,
        out_indices=(1, 2, 3, 4),  # strides 4, 8, 16, 32; timm counts from stride 2
    )
)
