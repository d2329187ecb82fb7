# Ablation: 256 images an update instead of 4096, a sixteenth of the rate.
# bash tools/dist_train.sh configs/ablations/batch_256.py 8
# 8 GPUs x 32 images, their targets together. Hours and memory: not measured here.
_base_ = '../mcl_r50_100e.py'

optim_wrapper = dict(optimizer=dict(lr=1.0))
auto_scale_lr = dict(base_batch_size=256)
train_dataloader = dict(batch_size=32)
