"""What has changed between two configs is told by path; what changes no step is not."""

from mmengine.config import Config

from mcl_mm.engine.config_changes import LONGEST, MOST, config_changes

BEFORE = dict(
    model=dict(joint='all', head=dict(temperature=0.2), backbone=dict(depth=50)),
    custom_hooks=[dict(type='TargetUpdateHook')],
    optim_wrapper=dict(clip_grad=dict(max_norm=1.0), optimizer=dict(lr=1.0)),
    train_cfg=dict(max_epochs=3),
    train_dataloader=dict(num_workers=2, dataset=dict(data_root='a', pipeline=[dict(side=224)])),
    work_dir='here',
)


def changes(**options):
    """Of a config with other settings; dots in their names are underscores, twice."""
    now = Config(BEFORE)
    now.merge_from_dict({name.replace('__', '.'): value for name, value in options.items()})
    return config_changes(Config(BEFORE).pretty_text, now.pretty_text)


def test_nothing_has_changed():
    assert changes() == []


def test_what_changes_no_step():
    """Nor what the optimiser tells by itself."""
    assert not changes(
        train_dataloader__num_workers=0,
        train_dataloader__dataset__data_root='b',
        optim_wrapper__optimizer__lr=0.1,
        work_dir='there',
    )


def test_settings_are_told_by_path():
    found = changes(
        model__head__temperature=0.1,
        model__early_backward=True,
        custom_hooks=[],
        train_dataloader__dataset__pipeline=[dict(side=160)],
    )
    assert sorted(found) == [
        'custom_hooks.0.type: TargetUpdateHook -> not set',
        'custom_hooks: not set -> []',
        'model.early_backward: not set -> True',
        'model.head.temperature: 0.2 -> 0.1',
        'train_dataloader.dataset.pipeline.0.side: 224 -> 160',
    ]


def test_long_values_and_many_lines_are_cut():
    (line,) = changes(model__joint='x' * 200)
    assert line == f'model.joint: all -> {"x" * LONGEST}...'
    found = changes(model__many={f'name{i}': i for i in range(30)})
    assert len(found) == MOST + 1
    assert found[-1] == 'and 10 more'


def test_a_config_is_read_as_data(tmp_path):
    """The text of a checkpoint could be anything; what is no data is not compared."""
    text = f"train_cfg = dict(max_epochs=open('{tmp_path}/made', 'w'))\nmodel = dict(a=1)\n"
    assert config_changes(text, 'model = dict(a=2)') == ['model.a: 1 -> 2']
    assert config_changes('no config', 'model = dict(a=2)') == ['model.a: not set -> 2']
    assert not list(tmp_path.iterdir())
