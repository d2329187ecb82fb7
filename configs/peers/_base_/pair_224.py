# One view a side of every image: what methods with two views see of an MCL run's data.
_base_ = '../../_base_/datasets/views_224.py'

multi_view = dict(_base_.multi_view, num_views=[1, 1])
train_dataloader = dict(dataset=dict(pipeline=[_base_.load_image, multi_view, _base_.pack_inputs]))
