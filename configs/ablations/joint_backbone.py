# Ablation: all sheets of a side pass the backbone together, as published, and only what is read after it.
# bash tools/dist_train.sh configs/ablations/joint_backbone.py 8      (on each of 4 nodes with NNODES=4)
# As mcl_r50_100e.py, 32 GPUs x 128 images. Hours and memory: not measured here.
_base_ = '../mcl_r50_100e.py'

model = dict(joint='backbone')
