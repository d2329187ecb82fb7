# Ablation: one predictor for all levels.
# NNODES=4 bash tools/dist_train.sh ablations/shared_predictor 8
# 147.0 G multiply-adds an image, 247 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(head=dict(shared_predictor=True))
