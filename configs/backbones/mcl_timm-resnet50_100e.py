# MCL with timm's ResNet-50, trained as mcl_r50_100e: an example for other models of timm.
# NNODES=4 bash tools/dist_train.sh backbones/mcl_timm-resnet50_100e 8
# 147.0 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs.
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
