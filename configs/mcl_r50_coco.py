# MCL on scenes: COCO's images without labels (paper: 41.8 box AP / 37.7 mask AP, Mask R-CNN 1x).
# NNODES=4 bash tools/dist_train.sh mcl_r50_coco 8
# 147.0 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 1114 epochs.
_base_ = 'mcl_r50_100e.py'

# Folders in data/coco, and what COCO says they hold. This line alone adds the unlabelled images:
# images = dict(train2017=118287, unlabeled2017=123403)
images = dict(train2017=118287)
train_dataloader = dict(dataset=dict(data_root='data/coco', folders=list(images)))

# As many updates as 100 epochs of ImageNet make: 1,281,167 images, 4096 an update.
updates = 100 * (1281167 // 4096)
epochs = round(updates / (sum(images.values()) // 4096))
train_cfg = dict(max_epochs=epochs)
default_hooks = dict(checkpoint=dict(interval=epochs // 25))

# Warm-up and cosine take the shares of the run that they take there.
param_scheduler = [
    dict(_base_.warmup, end=_base_.warmup.end * epochs / 100),
    dict(_base_.cosine, end=epochs, T_max=epochs),
]
