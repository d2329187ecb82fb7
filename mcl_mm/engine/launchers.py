"""Several processes: who they are, and how they meet without a GPU."""

import atexit
import os
import subprocess
import time

import torch

SLURM_VARIABLES = dict(RANK='PROCID', LOCAL_RANK='LOCALID', WORLD_SIZE='NTASKS')
# Set for each of several processes: by whom, and what tells this package.
STARTED_BY = dict(
    WORLD_SIZE=('torchrun', 'pytorch'),
    SLURM_STEP_NUM_TASKS=('srun', 'slurm'),
    OMPI_COMM_WORLD_SIZE=('mpirun', 'mpi'),
)


def check_launcher(launcher: str) -> None:
    """Refuse to be one of several runs that do not know of each other and write the same files.

    Args:
        launcher (str): Of ``--launcher``.

    Raises:
        ValueError: It is ``'none'``, and something has started this process as one of several.
    """
    if launcher != 'none':
        return
    for variable, (starter, wanted) in STARTED_BY.items():
        count = os.environ.get(variable, '1')
        if count.isdecimal() and int(count) > 1:
            raise ValueError(
                f'this is one of {count} processes that {starter} has started, and each would train on '
                f'its own: add --launcher {wanted}, or unset {variable}'
            )


def join_processes(launcher: str) -> None:
    """Connect the processes of a launcher by Gloo; MMEngine would ask for a GPU.

    Args:
        launcher (str): ``'pytorch'`` or ``'slurm'``.

    Raises:
        ValueError: Another one, or Slurm's variables are not set.
    """
    if launcher == 'mpi':
        raise ValueError('--launcher mpi needs GPUs; without, use tools/dist_train.sh')
    if launcher == 'slurm':
        translate_slurm_variables()
    if torch.distributed.is_initialized():
        return
    torch.distributed.init_process_group('gloo')
    # Gloo's threads need the GIL to let go of what they exchanged last. If the interpreter ends before,
    # they abort the process (PyTorch 2.11, github.com/pytorch/pytorch/pull/179291).
    atexit.register(time.sleep, 0.5)


def translate_slurm_variables() -> None:
    """Set what PyTorch reads from the environment by what Slurm has set.

    Raises:
        ValueError: Slurm has set nothing.
    """
    env = os.environ
    if 'SLURM_PROCID' not in env:
        raise ValueError('--launcher slurm is for tools/slurm_train.sh: srun sets no rank here')
    env.update({key: env[f'SLURM_{value}'] for key, value in SLURM_VARIABLES.items()})
    if 'MASTER_ADDR' not in env:
        command = ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
        env['MASTER_ADDR'] = subprocess.check_output(command, text=True).split()[0]
    env.setdefault('MASTER_PORT', '29500')
