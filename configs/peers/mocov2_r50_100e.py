# MoCo v2 for comparison: mmpretrain's model and rates, an MCL run's data, views and epochs.
# bash tools/dist_train.sh peers/mocov2_r50_100e 8
# 16.3 G multiply-adds an image, 258 MB of weights. 8 GPUs x 32 images, 100 epochs.
_base_ = ['_base_/mocov2_r50.py', '_base_/pair_224.py', '_base_/cosine_100e.py']

train_dataloader = dict(batch_size=32)
