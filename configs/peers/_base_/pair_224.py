# One view a side of every image: what methods with two views see of an MCL run's data.
_base_ = '../../_base_/datasets/views_224.py'

multi_view = _base_.train_dataloader.dataset.pipeline[1]
multi_view.num_views = [1, 1]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadAnyImage'),
            multi_view,
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
