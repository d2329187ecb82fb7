# DenseCL for comparison: mmpretrain's model and rates, an MCL run's data, views and epochs.
# bash tools/dist_train.sh configs/peers/densecl_r50_100e.py 8
# 8 GPUs x 32 images; another batch size scales the rate by itself. Hours and memory: not measured here.
_base_ = ['_base_/densecl_r50.py', '_base_/pair_224.py', '_base_/cosine_100e.py']

train_dataloader = dict(batch_size=32)
