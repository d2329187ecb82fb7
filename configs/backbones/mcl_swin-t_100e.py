# MCL with Swin-T, trained by AdamW.
# NNODES=4 bash tools/dist_train.sh backbones/mcl_swin-t_100e 8
# 149.6 G multiply-adds an image, 287 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = [
    '../_base_/models/mcl_r50.py',
    '../_base_/datasets/views_224.py',
    '../_base_/schedules/adamw_100e.py',
    '../_base_/default_runtime.py',
]

# MMDetection's class, not MMPretrain's, whose layers have other names; its default is stochastic depth.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.0,
        out_indices=(0, 1, 2, 3),
    )
)
