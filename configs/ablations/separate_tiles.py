# Ablation: tiles as images of their own instead of parts of a sheet, routed: compare with routed.py.
# NNODES=4 bash tools/dist_train.sh ablations/separate_tiles 8
# 46.7 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

model = dict(joint='none', data_preprocessor=dict(montage=dict(pasted=False)))
