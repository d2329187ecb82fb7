# The published views at 64 pixels, for two CPU cores.
_base_ = '../../_base_/datasets/views_224.py'

crop = dict(_base_.crop, scale=64)
view_pipeline_q = [crop, *_base_.after_crop_q]
view_pipeline_k = [crop, *_base_.after_crop_k]
multi_view = dict(_base_.multi_view, transforms=[view_pipeline_q, view_pipeline_k])
# One view a side: methods of two views take it by name.
pair_pipeline = [_base_.load_image, dict(multi_view, num_views=[1, 1]), _base_.pack_inputs]
# Views at native size; recipes take them by name. 166 is 64 / sqrt(0.2 * 3 / 4).
native_load = dict(type='LoadAnyImage', min_side=166)
native_views = dict(type='NativeViews', side=64, crop_ratio_range=(0.2, 1.0), flip_prob=0.5)
native_pipeline = [native_load, native_views, _base_.pack_inputs]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(infinite=True),
    dataset=dict(
        data_root='work_dirs/quickstart/scenes/unlabelled',
        pipeline=[_base_.load_image, multi_view, _base_.pack_inputs],
    ),
)
