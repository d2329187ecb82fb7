# MCL with the labels of ImageNet: every tile is classified, no target; views, epochs and rates as published.
# bash tools/dist_train.sh configs/mcl_r50_100e_supervised.py 8      (on each of 4 nodes with NNODES=4)
# 32 GPUs x 128 images. Hours and memory: not measured here. Accuracy on data/imagenet/val: tools/test.py.
_base_ = ['mcl_r50_100e.py', '_base_/datasets/plain_224.py']

# Other labels: data_root of both data sets, a folder for each class in it, and num_classes.
model = dict(
    type='SupervisedMCL',
    neck=dict(track_level=0),
    head=dict(
        _delete_=True,
        type='MultiLevelClassificationHead',
        num_classes=1000,
        in_channels=256,
        loss_weights=(1 / 2, 1 / 4, 1 / 8, 1 / 8),
    ),
)
custom_hooks = []
train_dataloader = dict(dataset=dict(type='LabelledImages'))
