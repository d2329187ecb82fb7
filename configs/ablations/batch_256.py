# Ablation: 256 images an update instead of 4096, a sixteenth of the rate.
# bash tools/dist_train.sh ablations/batch_256 8
# 147.0 G multiply-adds an image, 260 MB of weights. 8 GPUs x 32 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

optim_wrapper = dict(optimizer=dict(lr=1.0))
auto_scale_lr = dict(base_batch_size=256)
train_dataloader = dict(batch_size=32)
