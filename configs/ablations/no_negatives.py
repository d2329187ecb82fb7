# Ablation: tiles are pulled to their own image and not told from others, 2 - 2 cos as in BYOL.
# NNODES=4 bash tools/dist_train.sh ablations/no_negatives 8
# 147.0 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(head=dict(negatives=False))
