# Ablation: each sheet only through what its loss reads. What changes is which cells share a BN batch.
# bash tools/dist_train.sh configs/ablations/routed.py 8      (on each of 4 nodes with NNODES=4)
# As mcl_r50_100e.py, 32 GPUs x 128 images. Hours and memory: not measured here.
_base_ = '../mcl_r50_100e.py'

model = dict(joint='none')
