# MCL with the labels of ImageNet: every tile is classified, no target; views, epochs and rates as published.
# NNODES=4 bash tools/dist_train.sh mcl_r50_100e_supervised 8
# 135.5 G multiply-adds an image, 125 MB of weights. 32 GPUs x 128 images, 100 epochs.
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
