# A supervised classifier for comparison: mmpretrain's model and rates, an MCL run's data, views and epochs.
# bash tools/dist_train.sh peers/supervised_r50_100e 8
# 12.1 G multiply-adds an image, 102 MB of weights. 8 GPUs x 32 images, 100 epochs.
_base_ = ['_base_/supervised_r50.py', '../_base_/datasets/views_224.py', '_base_/cosine_100e.py']

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        type='LabelledImages',
        pipeline=[
            _base_.load_image,
            # One view of either side's kind.
            dict(type='RandomChoice', transforms=[_base_.view_pipeline_q, _base_.view_pipeline_k]),
            _base_.pack_inputs,
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1),
]
