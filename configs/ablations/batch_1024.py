# Ablation: 1024 images an update instead of 4096, a quarter of the rate.
# bash tools/dist_train.sh configs/ablations/batch_1024.py 8
# 8 GPUs x 128 images, their targets together. Hours and memory: not measured here.
_base_ = '../mcl_r50_100e.py'

optim_wrapper = dict(optimizer=dict(lr=4.0))
auto_scale_lr = dict(base_batch_size=1024)
