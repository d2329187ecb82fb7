# pretrain.py with the published views, made one by one, and all sheets through all levels.
# mcl-mm train quickstart/pretrain_published --data DIR
# 0.95 G multiply-adds an image, 25.9 MB of weights. 2 CPU cores, minutes: 64 images, 240 iterations.
_base_ = ['_base_/mcl_half_r18.py', '_base_/views_64.py', '_base_/adamw_240it.py']
