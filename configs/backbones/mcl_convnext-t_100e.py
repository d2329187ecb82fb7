# MCL with ConvNeXt-T, trained by AdamW.
# bash tools/dist_train.sh configs/backbones/mcl_convnext-t_100e.py 8      (on each of 4 nodes with NNODES=4)
# 32 GPUs x 128 images. Hours and memory: not measured here. See docs/backbones.md.
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
