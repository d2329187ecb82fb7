# Ablation: 3 of the 4 levels, up to 4x4 sheets; their weights stay what they are.
# NNODES=4 bash tools/dist_train.sh ablations/levels_3 8
# 68.6 G multiply-adds an image, 255 MB of weights. 32 GPUs x 128 images, 100 epochs.
_base_ = '../mcl_r50_100e.py'

multi_view = dict(_base_.multi_view, num_views=[3, 3])
find_unused_parameters = True  # of the pyramid
model = dict(
    data_preprocessor=dict(montage=dict(ratios=(1, 2, 4), appearances=(1, 1, 1))),
    head=dict(loss_weights=(1 / 2, 1 / 4, 1 / 8)),
)
train_dataloader = dict(dataset=dict(pipeline=[_base_.load_image, multi_view, _base_.pack_inputs]))
