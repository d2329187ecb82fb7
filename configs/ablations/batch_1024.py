# Ablation: 1024 images an update instead of 4096, a quarter of the rate.
# bash tools/dist_train.sh ablations/batch_1024 8
# 147.0 G multiply-adds an image, 260 MB of weights. 8 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

optim_wrapper = dict(optimizer=dict(lr=4.0))
auto_scale_lr = dict(base_batch_size=1024)
