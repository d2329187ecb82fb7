# Ablation: views are shrunk to tiles with antialiasing instead of by nearest sub-sampling.
# NNODES=4 bash tools/dist_train.sh ablations/antialiased 8
# 147.0 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(data_preprocessor=dict(montage=dict(antialias=True)))
