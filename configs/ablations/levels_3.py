# Ablation: 3 of the 4 levels, up to 4x4 sheets; their weights stay what they are.
# bash tools/dist_train.sh configs/ablations/levels_3.py 8      (on each of 4 nodes with NNODES=4)
# As mcl_r50_100e.py, 32 GPUs x 128 images. Hours and memory: not measured here.
_base_ = '../mcl_r50_100e.py'

multi_view = _base_.train_dataloader.dataset.pipeline[1]
multi_view.num_views = [3, 3]
find_unused_parameters = True  # of the pyramid
model = dict(
    data_preprocessor=dict(montage=dict(ratios=(1, 2, 4), appearances=(1, 1, 1))),
    head=dict(loss_weights=(1 / 2, 1 / 4, 1 / 8)),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadAnyImage'),
            multi_view,
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
