# Ablation: views are shrunk to tiles with antialiasing instead of by nearest sub-sampling.
# bash tools/dist_train.sh configs/ablations/antialiased.py 8      (on each of 4 nodes with NNODES=4)
# As mcl_r50_100e.py, 32 GPUs x 128 images. Hours and memory: not measured here.
_base_ = '../mcl_r50_100e.py'

model = dict(data_preprocessor=dict(montage=dict(antialias=True)))
