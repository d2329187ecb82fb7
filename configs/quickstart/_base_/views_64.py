# The published views at 64 pixels, for two CPU cores.
_base_ = '../../_base_/datasets/views_224.py'

view_pipeline_q = _base_.view_pipeline_q
view_pipeline_k = _base_.view_pipeline_k
view_pipeline_q[0].scale = view_pipeline_k[0].scale = 64
multi_view = _base_.train_dataloader.dataset.pipeline[1]
multi_view.transforms = [view_pipeline_q, view_pipeline_k]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(infinite=True),
    dataset=dict(
        data_root='work_dirs/quickstart/scenes/unlabelled',
        pipeline=[
            dict(type='LoadAnyImage'),
            multi_view,
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
