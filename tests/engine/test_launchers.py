"""Who has started this process, and how it meets the others."""

import pytest

from mcl_mm.engine.launchers import STARTED_BY, check_launcher, join_processes


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for variable in (*STARTED_BY, 'SLURM_PROCID'):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ('variable', 'launcher'),
    [('WORLD_SIZE', 'pytorch'), ('SLURM_STEP_NUM_TASKS', 'slurm'), ('OMPI_COMM_WORLD_SIZE', 'mpi')],
)
def test_one_of_several_needs_a_launcher(monkeypatch, variable, launcher):
    check_launcher('none')
    monkeypatch.setenv(variable, '1')
    check_launcher('none')
    monkeypatch.setenv(variable, '2')
    with pytest.raises(ValueError, match=f'one of 2 processes .* add --launcher {launcher}'):
        check_launcher('none')
    check_launcher(launcher)


def test_slurm_has_to_say_who_is_who():
    with pytest.raises(ValueError, match='slurm_train.sh'):
        join_processes('slurm')


def test_mpi_needs_gpus():
    with pytest.raises(ValueError, match='--launcher mpi needs GPUs'):
        join_processes('mpi')
