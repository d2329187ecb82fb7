# Ablation: tiles as images of their own instead of parts of a sheet, routed: compare with routed.py.
# bash tools/dist_train.sh configs/ablations/separate_tiles.py 8      (on each of 4 nodes with NNODES=4)
# As mcl_r50_100e.py, 32 GPUs x 128 images. Hours and memory: not measured here.
_base_ = 'routed.py'

model = dict(data_preprocessor=dict(montage=dict(pasted=False)))
