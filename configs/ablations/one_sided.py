# Ablation: side q alone learns, from the targets of side k: half of the losses for half of the compute.
# bash tools/dist_train.sh configs/ablations/one_sided.py 8      (on each of 4 nodes with NNODES=4)
# As mcl_r50_100e.py, 32 GPUs x 128 images. Hours and memory: not measured here.
_base_ = '../mcl_r50_100e.py'

model = dict(symmetric=False)
