# pretrain.py with all sheets through all levels, as published.
# python tools/train.py configs/quickstart/pretrain_published.py
# A CPU, about three times the compute of pretrain.py.
_base_ = 'pretrain.py'

model = dict(joint='all')
