# Ablation: tiles are pulled to their own image and not told from others, 2 - 2 cos as in BYOL.
# bash tools/dist_train.sh configs/ablations/no_negatives.py 8      (on each of 4 nodes with NNODES=4)
# As mcl_r50_100e.py, 32 GPUs x 128 images. Hours and memory: not measured here.
_base_ = '../mcl_r50_100e.py'

model = dict(head=dict(negatives=False))
