"""A run on several folders, one of 16 bits, goes on exactly; it keeps the range that it has measured."""

import numpy as np
from PIL import Image

from conftest import draw_images
from tiny_runs import check_same_run, fault, final_state, run, write_config

WRAPPED = """
parts = [dict(_base_.train_dataloader.dataset, **train_dataloader['dataset'], data_root=root)
         for root in {roots!r}]
train_dataloader['dataset'] = dict(
    _delete_=True,
    type='ConcatDataset',
    datasets=[parts[0], dict(type='RepeatDataset', times=2, dataset=parts[1])],
)
log_level = 'INFO'
"""


def test_a_wrapped_run_that_is_stopped_ends_as_one_that_is_not(tmp_path):
    draw_images(tmp_path / 'bytes', 5)
    (tmp_path / 'deep').mkdir()
    for index in range(2):
        values = np.random.default_rng(index).integers(300, 4000, (60, 70)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f'deep/{index}.png')
    config = write_config(tmp_path, tmp_path / 'bytes', by_epoch=False)
    text = config.read_text().replace("data_root='" + str(tmp_path / 'bytes') + "',\n", '')
    config.write_text(
        text + WRAPPED.format(roots=[str(tmp_path / 'bytes'), str(tmp_path / 'deep')])
    )
    said = run(config, tmp_path / 'whole', 'train_dataloader.num_workers=2')
    assert said.count('becomes black') == 1
    (log,) = (tmp_path / 'whole').glob('*/*.log')
    assert log.read_text().count('images have more than 8 bits') == 1
    run(config, tmp_path / 'cut', *fault(6, 'SIGTERM'), code=75)
    assert final_state(tmp_path / 'cut')['meta']['iter'] == 7
    run(config, tmp_path / 'cut')
    check_same_run(tmp_path / 'cut', tmp_path / 'whole')
    ((low, high),) = final_state(tmp_path / 'cut')['meta']['value_ranges']
    assert 300 <= low < 310
    assert 3990 < high < 4000
