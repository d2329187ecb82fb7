# Ablation: all sheets of a side pass the backbone together, as published, and only what is read after it.
# NNODES=4 bash tools/dist_train.sh ablations/joint_backbone 8
# 48.8 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(joint='backbone')
