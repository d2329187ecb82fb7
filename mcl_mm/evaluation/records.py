"""What a ledger says of a comparison's runs before they start."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mcl_mm.files import check_output

from .identity import config_digest, describe_data, digest_of
from .ledger import Record, read_ledger
from .methods import Method
from .starts import Start, start_from


class Book(NamedTuple):
    """A ledger, and the command that adds to it.

    Attributes:
        ledger (Path): The file.
        command (str): As it was typed.
    """

    ledger: Path
    command: str

    def check(self) -> None:
        """Find out whether runs can be added to the file.

        Raises:
            OSError: It cannot be read or written.
            ValueError: It is there and no ledger.
        """
        check_output(self.ledger)
        read_ledger(self.ledger)

    def pretrainings(
        self, method: Method, seeds: Sequence[int], processes: int
    ) -> dict[int, Record]:
        """Of one method, by seed."""
        train = describe_data(method.cfg, 'train_dataloader')
        facts = dict(
            kind='pretrain',
            method=method.name,
            config=config_digest(method.cfg, processes),
            train=train,
            images_seen=method.images,
            multiply_adds=method.images * method.cost,
            processes=processes,
            command=self.command,
        )
        what = ['pretrain', facts['config'], train['digest']]
        return {
            seed: Record(self.ledger, dict(facts, seed=seed, identity=digest_of([*what, seed])))
            for seed in seeds
        }

    def finetunings(self, detector: Config, processes: int) -> 'Finetunings':
        """Of one detector; reads its data."""
        cfg = start_from(detector, Start())
        train, val = (describe_data(cfg, f'{name}_dataloader') for name in ('train', 'val'))
        length = cfg.train_cfg.get('max_iters')
        step = cfg.train_dataloader.batch_size * processes
        facts = dict(
            kind='finetune',
            detector=Path(detector.filename).stem,
            config=config_digest(cfg, processes),
            train=train,
            val=val,
            images_seen=length * step if length else cfg.train_cfg.max_epochs * train['images'],
            processes=processes,
            command=self.command,
        )
        return Finetunings(self.ledger, facts)


class Finetunings(NamedTuple):
    """Runs of one detector on its data, which differ in their start and seed.

    Attributes:
        ledger (Path): The file.
        facts (dict): What they share.
    """

    ledger: Path
    facts: dict

    def record(self, start: Start, seed: int, pretraining: str = '') -> Record:
        """Of one run.

        Args:
            start (Start): What it starts from.
            seed (int): Its seed.
            pretraining (str): Identity of the run that makes the weights, which need not be there yet.
                Defaults to none: the content of the start's file counts.
        """
        facts = self.facts
        origin = dict(parts=list(start.parts))
        if pretraining:
            origin['pretraining'] = pretraining
        elif start.weights:
            origin['weights'] = start.digest()
        what = [facts['config'], facts['train']['digest'], facts['val']['digest'], seed, origin]
        return Record(
            self.ledger,
            dict(
                facts,
                start=start.name,
                origin=origin,
                seed=seed,
                identity=digest_of(['finetune', *what]),
            ),
        )
