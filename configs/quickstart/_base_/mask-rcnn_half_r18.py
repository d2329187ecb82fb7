# A Mask R-CNN shaped like the network of pretrain.py; recipes take it by name.
half_norm = dict(type='BN', requires_grad=True)
half_r18 = dict(
    backbone=dict(depth=18, stem_channels=32, base_channels=32, norm_cfg=half_norm),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, norm_cfg=half_norm),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=28),
        bbox_head=dict(
            in_channels=64,
            conv_out_channels=64,
            fc_out_channels=256,
            norm_cfg=half_norm,
        ),
        mask_roi_extractor=dict(out_channels=64, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, norm_cfg=half_norm),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)
