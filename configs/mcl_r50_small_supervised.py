# Supervised MCL for a small set with a folder of images for each class; see docs/supervised.md.
# mcl-mm train mcl_r50_small_supervised --data DIR --cfg-options model.head.num_classes=2
# 37.4 G multiply-adds an image, 121 MB of weights. 1 GPU x 64 images, 10000 iterations.
_base_ = ['mcl_r50_small.py', '_base_/datasets/plain_224.py']

model = dict(
    type='SupervisedMCL',
    neck=dict(track_level=0),
    head=dict(
        _delete_=True,
        type='MultiLevelClassificationHead',
        num_classes=2,
        in_channels=256,
        loss_weights=(1 / 2, 1 / 4, 1 / 8, 1 / 8),
    ),
)
custom_hooks = []
train_dataloader = dict(batch_size=64, dataset=dict(type='LabelledImages'))
test_evaluator = dict(topk=(1,))  # of two classes there are no best five
