# What taking the weights asks of a detector; the configs beside this folder take these parts by name.
custom_imports = dict(imports=['mcl_mm'])

# Statistics of the whole batch of all GPUs. On one process MMEngine turns it into plain BN.
norm_cfg = dict(type='SyncBN', requires_grad=True)
# All of the backbone learns, its BN statistics too: they came from pre-training sheets.
backbone = dict(norm_cfg=norm_cfg, frozen_stages=-1, norm_eval=False, init_cfg=None)
# The weights have BN after each conv of the pyramid.
neck = dict(norm_cfg=norm_cfg)
# The head with room for the projector's four convs.
bbox_head = dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg)

multi_scale = dict(
    type='RandomChoiceResize',
    scales=[(1333, side) for side in (640, 672, 704, 736, 768, 800)],
    keep_ratio=True,
)
