# mcl_r50_small for images of four channels that are no photographs, TIFF or NumPy; see docs/channels.md.
# mcl-mm train channels/mcl_r50_small_4ch --data DIR
# 49.1 G multiply-adds an image, 260 MB of weights. 1 GPU x 256 images, 10000 iterations.
_base_ = ['../mcl_r50_small.py']

# The one setting, also of the other recipes with native views: --cfg-options channels=N. What follows from
# it is written out here.
channels = 4
values = dict(type='ChannelAugmentation', brightness=0.4, contrast=0.4, gain=0.1)
model = dict(
    backbone=dict(in_channels=channels),
    data_preprocessor=dict(
        bgr_to_rgb=False,
        # Of values from 0 to 255 that nobody has measured: check-images measures them.
        mean=[127.5] * channels,
        std=[64.0] * channels,
        photometric=[dict(values, blur_prob=1.0), dict(values, blur_prob=0.1)],
    ),
)
train_dataloader = dict(dataset=dict(channels=channels))
