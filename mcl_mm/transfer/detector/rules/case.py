"""What rules look at, and the questions they ask of it."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Optional

from mmengine.config import Config
from torch import nn

from ..finding import Finding, curable  # noqa: F401  (what every rule makes)
from ..fit import PARTS, part_to_carry
from ..load_report import LoadReport


class Case(NamedTuple):
    """A detector, its config and weights: what a trap is looked for in.

    Attributes:
        cfg (Config): Of the run; what it does not say is not judged.
        model (nn.Module): The detector in training mode, not wrapped.
        names (Collection[str], optional): Of the file's weights. Defaults to None: those of an export that
            is still to be made, which has everything.
        meta (dict): The file's record of how they were trained. Defaults to nothing.
        parts (Sequence[str]): What is to be carried. Defaults to all.
        report (LoadReport, optional): What loads. Defaults to None: all that the file has.
        processes (int, optional): That train. Defaults to None: any number.
    """

    cfg: Config
    model: nn.Module
    names: Optional[Collection[str]] = None
    meta: dict = {}
    parts: Sequence[str] = PARTS
    report: Optional[LoadReport] = None
    processes: Optional[int] = None

    @property
    def backbone(self) -> dict:
        """Config of the backbone; empty if the config does not tell."""
        return (self.cfg.get('model') or {}).get('backbone') or {}

    def loads(self, prefix: str) -> bool:
        """Whether a part of the detector takes weights from the file."""
        if self.report is None:
            return self.offers(prefix)
        return any(name.startswith(prefix) for name in self.report.loaded)

    def offers(self, prefix: str) -> bool:
        """Whether the file has weights for a part that is to be carried, under an export's names."""
        if part_to_carry(prefix) not in self.parts:
            return False
        return self.names is None or any(name.startswith(prefix) for name in self.names)
