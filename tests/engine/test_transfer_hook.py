"""Weights into a detector by ``load_from``, through MMEngine's Runner."""

import io
import logging
from collections import OrderedDict
from unittest.mock import patch

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from conftest import build_detector, tiny_detector
from mcl_mm.engine import TransferHook
from mcl_mm.engine.start_check import check_load_from
from mcl_mm.transfer import to_mmdet
from processes import run_ranks

RETINANET = 'retinanet/retinanet_r50_fpn_1x_coco.py'
HOOK = dict(type='mcl_mm.TransferHook')


@pytest.fixture
def export(pretrained, tmp_path):
    """A file of weights as the command ``export`` writes it."""
    path = tmp_path / 'export.pth'
    torch.save(dict(state_dict=to_mmdet(pretrained.state_dict()), meta={}), path)
    return path


@pytest.fixture
def make_runner(tmp_path):
    """A Runner of a tiny RetinaNet, as MMDetection's tools/train.py makes it, without data."""

    def make(load_from, hooks=(HOOK,), **settings):
        torch.manual_seed(0)
        return Runner(
            model=build_detector(tiny_detector(RETINANET).model),
            work_dir=str(tmp_path / 'work'),
            custom_hooks=list(hooks),
            load_from=load_from and str(load_from),
            default_scope='mmdet',
            experiment_name=f'transfer{torch.randint(10**9, (1,), generator=fresh).item()}',
            **settings,
        )

    with DefaultScope.overwrite_default_scope('mmengine'):  # a Runner would leave its own behind
        yield make


fresh = torch.Generator()
fresh.seed()


def features(model, image):
    with torch.no_grad():
        return model.eval().extract_feat(image)


def test_a_detector_computes_the_pretrained_features(pretrained, export, make_runner):
    """With the hook, P3 to P5 are ours to the last bit; by plain names they are not."""
    image = torch.randn(1, 3, 64, 96)
    ours = features(pretrained, image)[1:]
    runner = make_runner(export)
    runner.load_or_resume()
    torch.testing.assert_close(features(runner.model, image)[:3], ours, rtol=0, atol=0)
    plain = make_runner(export, hooks=())
    plain.load_or_resume()
    for theirs, expected in zip(features(plain.model, image), ours):
        assert not torch.allclose(theirs, expected)


def test_the_table_is_printed_once_and_only_where_it_belongs(export, make_runner, caplog):
    runner = make_runner(export)
    caplog.handler.setLevel(logging.INFO)
    runner.logger.addHandler(caplog.handler)
    runner.load_or_resume()
    printed = [
        record.getMessage() for record in caplog.records if 'export.pth' in record.getMessage()
    ]
    table = [text for text in printed if 'neck.lateral_convs' in text]
    assert len(table) == 1
    assert 'this detector has no such level' in table[0]


def test_parts_that_are_not_carried_stay_as_they_were(pretrained, export, make_runner):
    runner = make_runner(export, [dict(HOOK, parts=('backbone',))])
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.load_or_resume()
    weights = to_mmdet(pretrained.state_dict())
    for name, value in runner.model.state_dict().items():
        expected = weights[name] if name.startswith('backbone.') else before[name]
        assert torch.equal(value, expected), name


def test_a_checkpoint_of_the_detector_itself_is_taken_whole(make_runner, tmp_path):
    """Testing a fine-tuned detector must not take its pyramid for ours, nor leave parts out."""
    own = build_detector(tiny_detector(RETINANET).model).state_dict()
    own = {k: torch.rand(v.shape).to(v.dtype) for k, v in own.items()}
    torch.save(dict(state_dict=own, meta={}), tmp_path / 'own.pth')
    runner = make_runner(tmp_path / 'own.pth', [dict(HOOK, parts=('backbone',))])
    runner.load_or_resume()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, own[name]), name


def test_the_running_average_of_a_detector_starts_from_the_same_weights(
    pretrained, export, make_runner
):
    runner = make_runner(export, [dict(type='EMAHook'), HOOK])
    runner.call_hook('before_run')
    runner.load_or_resume()
    (ema,) = (hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model'))
    ours = pretrained.neck.fpn.lateral_convs[1].conv.weight
    for model in (runner.model, ema.module):
        assert torch.equal(model.neck.lateral_convs[0].conv.weight, ours)


@pytest.mark.parametrize('layout', ['bare', 'model', 'module.'])
def test_other_layouts_of_files(pretrained, make_runner, tmp_path, layout):
    weights = to_mmdet(pretrained.state_dict())
    contents = {
        'bare': weights,
        'model': dict(model=weights),
        'module.': dict(state_dict=OrderedDict({f'module.{k}': v for k, v in weights.items()})),
    }
    torch.save(contents[layout], tmp_path / 'weights.pth')
    runner = make_runner(tmp_path / 'weights.pth')
    runner.load_or_resume()
    ours = pretrained.neck.fpn.lateral_convs[1].conv.weight
    assert torch.equal(runner.model.neck.lateral_convs[0].conv.weight, ours)


def test_a_backbone_from_elsewhere(pretrained, make_runner, tmp_path):
    """A classifier of MMPretrain: its backbone loads, its head has no place."""
    weights = {f'backbone.{k}': v for k, v in pretrained.backbone.state_dict().items()}
    weights['head.fc.weight'] = torch.rand(10, 64)
    torch.save(dict(state_dict=weights), tmp_path / 'classifier.pth')
    runner = make_runner(tmp_path / 'classifier.pth')
    runner.load_or_resume()
    for name, value in runner.model.backbone.state_dict().items():
        assert torch.equal(value, weights[f'backbone.{name}'])


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        (lambda model: model.state_dict(), 'mcl-mm export '),
        (lambda model: model.backbone.state_dict(), 'none of these weights fits'),
        (lambda model: {k: v for k, v in to_mmdet(model.state_dict()).items() if k[0] != 'b'},
         'no weight of the backbone'),
    ],
)  # fmt: skip
def test_a_run_that_would_load_nothing_or_less_ends(
    pretrained, make_runner, tmp_path, weights, message
):
    torch.save(dict(state_dict=weights(pretrained)), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=message):
        make_runner(tmp_path / 'weights.pth').load_or_resume()


def test_a_run_that_resumes_is_left_alone(export, make_runner):
    runner = make_runner(export, resume=True)
    checkpoint = torch.load(export, weights_only=True)
    weights = dict(checkpoint['state_dict'])
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    assert checkpoint['state_dict'] == weights


@pytest.mark.parametrize('parts', ['backbone', (), ('backbone', 'head')])
def test_unknown_parts_are_refused(parts):
    with pytest.raises(ValueError, match='parts must be some of'):
        TransferHook(parts)


def test_it_is_built_from_a_detectors_config(export, make_runner):
    """The scope ``mcl_mm`` is found from within ``mmdet``'s, as under MMDetection's own tools."""
    runner = make_runner(export, [Config(dict(hook=HOOK)).hook])
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, TransferHook))
    assert hook.parts == ('backbone', 'neck', 'box_head')


def test_the_start_check_of_a_run_without_the_hook(export, make_runner):
    """tools/train.py refuses what plain names would misplace, and leaves a hook to speak itself."""
    runner = make_runner(export, hooks=())
    with pytest.raises(ValueError, match=r'wrong level or into none.*TransferHook'):
        check_load_from(runner, runner.model)
    with patch('mcl_mm.engine.start_check.print_log') as printed:
        hooked = make_runner(export)
        check_load_from(hooked, hooked.model)
        printed.assert_not_called()


def test_pretraining_continues_an_export_as_what_it_was(
    pretrained, export, tiny_config, build, tmp_path
):
    """Backbone, pyramid and the projector's convs go back; the target starts as their copy."""
    model = build(tiny_config)
    for value in model.state_dict().values():
        value.zero_()
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        runner = Runner(
            model=model,
            work_dir=str(tmp_path / 'work'),
            load_from=str(export),
            default_scope='mcl_mm',
            experiment_name='continue_export',
        )
        check_load_from(runner, runner.model)
        runner.load_or_resume()
    given, now = pretrained.state_dict(), runner.model.state_dict()
    for name in ('backbone.layer4.0.conv1.weight', 'neck.fpn.fpn_convs.3.bn.running_var',
                 'neck.projector.convs.0.conv.weight'):  # fmt: skip
        assert torch.equal(now[name], given[name])
        assert torch.equal(now[f'target.{name}'], given[name])
    assert not now['head.predictors.0.fc0.weight'].any()


def test_a_run_without_weights_is_told(make_runner, caplog):
    for load_from, told in ((None, True), ('weights.pth', False)):
        runner = make_runner(load_from)
        caplog.clear()
        runner.logger.addHandler(caplog.handler)
        TransferHook().before_train(runner)
        assert ('No load_from' in caplog.text) == told


def one_rank(rank, path):
    """Load a file that does not fit in one of two processes; tell what was raised and printed."""
    runner = Runner(
        model=MMDistributedDataParallel(build_detector(tiny_detector(RETINANET).model)),
        work_dir=str(path.parent / 'dist'),
        custom_hooks=[HOOK],
        load_from=str(path),
        default_scope='mmdet',
    )
    stream = io.StringIO()
    for handler in runner.logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(stream)
    try:
        runner.load_or_resume()
    except ValueError as error:
        return str(error), stream.getvalue()


def test_all_of_several_processes_end_and_one_prints(pretrained, tmp_path, free_port):
    torch.save(dict(state_dict=pretrained.state_dict()), tmp_path / 'whole.pth')
    results = run_ranks(one_rank, 2, free_port, tmp_path / 'whole.pth')
    assert all('first: mcl-mm export ' in error for error, _ in results)
    assert ['not-exported' in printed for _, printed in results] == [True, False]
