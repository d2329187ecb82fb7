# mcl_r50_100e for a fraction of the compute: joint backbone, native views, colours on the device, bfloat16.
# NNODES=4 bash tools/dist_train.sh mcl_r50_100e_fast 8
# 48.8 G multiply-adds an image, 260 MB of weights. 32 GPUs x 128 images, 100 epochs. See docs/performance.md.
_base_ = ['mcl_r50_100e.py', '_base_/fast.py']

sync_bn_group = 'machine'  # what waits for other machines is the gradients and one all-gather

model = _base_.fast_model
train_dataloader = dict(dataset=dict(pipeline=_base_.fast_pipeline))
# bfloat16 has the range of float32: no loss scaler. NonFiniteHook checks, and waits, at every step.
optim_wrapper = dict(
    dtype='bfloat16', loss_scale=dict(_delete_=True, enabled=False), optimizer=dict(type='LARS')
)
default_hooks = dict(runtime_info=dict(type='LazyRuntimeInfoHook'))
