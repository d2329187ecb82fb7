# mmpretrain's DenseCL: MoCo v2 with a second loss, between places of the last map.
_base_ = 'mocov2_r50.py'

model = dict(
    type='DenseCL',
    loss_lambda=0.5,
    neck=dict(
        _delete_=True,
        type='DenseCLNeck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
        num_grid=None,
    ),
)
find_unused_parameters = True
