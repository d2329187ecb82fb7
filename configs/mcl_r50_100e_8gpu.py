# mcl_r50_100e on one machine: 8 GPUs x 128 images x 4 accumulated steps = 4096 images an update.
# bash tools/dist_train.sh mcl_r50_100e_8gpu 8
# 147.0 G multiply-adds an image, 260 MB of weights. 8 GPUs x 128 images, 100 epochs.
_base_ = 'mcl_r50_100e.py'

# Targets come from the 1024 images of a step, not from 4096.
optim_wrapper = dict(accumulative_counts=4)
# auto_scale_lr counts the images of a step, not of an update.
auto_scale_lr = dict(base_batch_size=1024)
