# MCL with ConvNeXt-T, trained by AdamW.
# NNODES=4 bash tools/dist_train.sh backbones/mcl_convnext-t_100e 8
# 149.2 G multiply-adds an image, 289 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = [
    '../_base_/models/mcl_r50.py',
    '../_base_/datasets/views_224.py',
    '../_base_/schedules/adamw_100e.py',
    '../_base_/default_runtime.py',
]

# As in MMDetection's configs, whose names and layers these are, but without stochastic depth.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        layer_scale_init_value=1.0,
        gap_before_final_norm=False,
    )
)
