# pretrain.py with the published views, made one by one, and all sheets through all levels.
# mcl-mm train quickstart/pretrain_published --data DIR
# Two CPU cores, several times the minutes of pretrain.py.
_base_ = ['_base_/mcl_half_r18.py', '_base_/views_64.py', '_base_/adamw_120it.py']
