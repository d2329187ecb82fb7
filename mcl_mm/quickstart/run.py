"""The quickstart: from a folder of images to a better detector."""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Optional

import cv2
from mmengine.config import Config

from mcl_mm.config import find_config
from mcl_mm.datasets import UnlabelledImages
from mcl_mm.evaluation.compare_transfer import conclude, plan_runs
from mcl_mm.evaluation.metrics import headline, spread
from mcl_mm.evaluation.montage_picture import draw_montages
from mcl_mm.evaluation.run_log import images_per_second, read_scalars
from mcl_mm.evaluation.runs import Run, check_room, train, write_config
from mcl_mm.evaluation.starts import RANDOM, Start
from mcl_mm.transfer.detector.fit import PARTS
from mcl_mm.transfer.export import export

from .page import Section, write_page
from .pictures import draw_detections, draw_loss
from .scenes import draw_data_set
from .stages import Stages, watch

ROOM = 2**29  # bytes that a quickstart leaves
DRAW, PRETRAIN, EXPORT, FINETUNE, PAGE = (
    'draw scenes',
    'pre-train',
    'export',
    'fine-tune',
    'write the page',
)


class Quickstart:
    """One quickstart in a folder of its own. Called again, it takes what is finished.

    Args:
        out (Path): The folder.
        images (Path, optional): A folder of images to pre-train on. Defaults to None: scenes are drawn,
            and a detector is fine-tuned on them.
        seeds (int): Fine-tuning runs from each start. Defaults to 1.

    Raises:
        OSError: There is no image, or ``out`` cannot be written.
        ValueError: ``seeds`` is not positive; there is a single image.
    """

    def __init__(self, out: Path, images: Optional[Path] = None, seeds: int = 1) -> None:
        if seeds < 1:
            raise ValueError(f'--seeds must be at least 1, got {seeds}')
        self.out, self.images, self.seeds = out, images, seeds
        self.scenes, self.weights = out / 'scenes', out / 'export.pth'
        if images is not None:
            self.count_images(images)
        check_room(out, ROOM)
        self.results = {}
        titles = [PRETRAIN, EXPORT, PAGE] if images else [DRAW, PRETRAIN, EXPORT, FINETUNE, PAGE]
        self.stages = Stages(titles)

    def run(self) -> Path:
        """Run all stages; returns the page. What libraries print goes to ``quickstart.log``."""
        with (
            open(self.out / 'quickstart.log', 'a', encoding='utf-8') as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            return self.run_stages()

    def run_stages(self) -> Path:
        """See :meth:`run`."""
        stage = self.stages.stage
        if not self.images:
            with stage(DRAW) as update:
                self.draw_scenes(update)
        with stage(PRETRAIN) as update:
            run = self.pretrain(update)
        with stage(EXPORT):
            checkpoint = (run / 'last_checkpoint').read_text()
            export(checkpoint, str(self.weights))
        finetuned = {}
        if not self.images:
            with stage(FINETUNE) as update:
                finetuned = self.finetune(update)
        with stage(PAGE):
            return self.write(run, finetuned)

    def recipe(self, name: str) -> Config:
        """A shipped recipe of the quickstart."""
        return Config.fromfile(find_config(f'quickstart/{name}'))

    def draw_scenes(self, update: Callable[[float], None]) -> None:
        """Draw the data set, unless that is done."""
        complete = self.scenes / 'complete'
        if not complete.exists():
            for share in draw_data_set(self.scenes):
                update(share)
            complete.touch()

    def pretrain(self, update: Callable[[float], None]) -> Path:
        """Pre-train on the images; returns the run's folder."""
        folder = self.images or self.scenes / 'unlabelled'
        cfg = self.recipe('pretrain')
        loader = cfg.train_dataloader
        loader.dataset.data_root = str(folder.resolve())
        loader.batch_size = min(self.count_images(folder), loader.batch_size)
        run = self.out / 'pretrain'
        write_config(cfg, run / 'config.py', cfg.randomness.seed)
        picture, _ = draw_montages({'pretrain': cfg})
        cv2.imwrite(str(self.out / 'montage.png'), picture)
        job = partial(train, Run(run, 'images'), images_per_second)
        self.watch([job], {run: cfg.train_cfg.max_iters}, update)
        return run

    def finetune(self, update: Callable[[float], None]) -> dict[str, Path]:
        """Fine-tune the detector from each start, one run a core; returns the first run of each."""
        cfg = self.recipe('finetune')
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.dataset.data_root = f'{self.scenes}/'
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            evaluator.ann_file = str(self.scenes / 'annotations/val.json')
        pretrained = Start('pre-trained', str(self.weights), PARTS)
        starts = {start.name: start for start in (Start(), pretrained)}
        runs = plan_runs(cfg, starts, range(self.seeds), self.out / 'finetune')
        labelled = len(list((self.scenes / 'train').iterdir()))
        iterations = cfg.train_cfg.max_epochs * -(-labelled // cfg.train_dataloader.batch_size)
        jobs = [partial(train, run) for run in runs.values()]
        lengths = {run.folder: iterations for run in runs.values()}
        found = self.watch(jobs, lengths, update)
        self.results = conclude(cfg, starts, runs, found, self.out / 'finetune')
        return {start: run.folder for (start, seed), run in runs.items() if seed == 0}

    def watch(
        self, jobs: list[Callable], lengths: dict[Path, int], update: Callable[[float], None]
    ) -> list:
        """Run trainings side by side with an even share of the cores each.

        Args:
            jobs (list[Callable]): The trainings.
            lengths (dict[Path, int]): Iterations of each by its folder.
            update (Callable[[float], None]): Of the progress display.
        """
        cores = os.cpu_count() or 1
        at_once = min(len(jobs), cores)
        os.environ['OMP_NUM_THREADS'] = str(cores // at_once)

        def share() -> float:
            return sum(steps_done(run) / n for run, n in lengths.items()) / len(lengths)

        return watch(jobs, share, update, at_once)

    def write(self, run: Path, finetuned: dict[str, Path]) -> Path:
        """Draw the pictures and write the page."""
        draw_loss(run, self.out / 'loss.png')
        sections = []
        if finetuned:
            draw_detections(self.scenes, finetuned, self.out / 'detections.png')
            sections += self.comparison_sections()
        sections += self.pretraining_sections()
        page = self.out / 'index.html'
        write_page(page, f'Quickstart: {self.images or "drawn scenes"}', sections)
        return page

    def table(self) -> list[list[str]]:
        """The head and a row for each start: mean and deviation of the metrics; empty without a detector."""
        if not self.results:
            return []
        metrics = headline(list(self.results[RANDOM][0]))
        rows = [['start', *(name.removeprefix('coco/') for name in metrics)]]
        for start, found in self.results.items():
            rows.append([start, *(spread([one[name] for one in found]) for name in metrics)])
        return rows

    def summary(self) -> str:
        """The table and the minutes, for the terminal."""
        total = sum(self.stages.minutes.values())
        lines = [''.join(f'{cell:22}' for cell in row) for row in self.table()]
        return '\n'.join([*lines, f'{total:.1f} minutes in all'])

    def comparison_sections(self) -> list[Section]:
        """What the detector gained."""
        return [
            Section(
                'What pre-training gave',
                'The same Mask R-CNN, fine-tuned on 80 labelled scenes and evaluated on 120 others, from '
                f'random weights and from the pre-trained ones. {self.seeds} run(s) from each start.',
                rows=self.table(),
            ),
            Section(
                'What the detectors find',
                'Scenes the detectors have not seen: the labels, and what each finds with a score above '
                '0.3.',
                picture=self.out / 'detections.png',
            ),
            Section(
                'Average precision',
                'A dot is one run.',
                picture=self.out / 'finetune/comparison.png',
            ),
        ]

    def pretraining_sections(self) -> list[Section]:
        """What the network saw and how it learnt."""
        minutes = self.stages.minutes
        return [
            Section(
                'What the network saw',
                'Sheets of a montage. Each image appears once at full size and, in small copies, on the '
                'sheets beside it. Frames of one colour and number belong to one image.',
                picture=self.out / 'montage.png',
            ),
            Section(
                'How it learnt',
                'The loss of each level against that of guessing. Below 1, tiles find their own image.',
                picture=self.out / 'loss.png',
            ),
            Section(
                'Take the weights into a detector',
                f'{self.weights} holds the backbone, the feature pyramid and the convolutions of the box '
                'head. A detector takes them by these lines of its MMDetection config; mcl-mm doctor '
                'says what it will use, and mcl-mm adapt writes the config for you.',
                code="custom_imports = dict(imports=['mcl_mm'])\n"
                "custom_hooks = [dict(type='mcl_mm.TransferHook')]\n"
                f"load_from = '{self.weights}'",
            ),
            Section(
                'Minutes',
                f'On {os.cpu_count()} CPU cores. A stage that was finished by an earlier call took none.',
                rows=[['stage', 'minutes'], *([name, f'{m:.1f}'] for name, m in minutes.items())],
            ),
        ]

    @staticmethod
    def count_images(folder: Path) -> int:
        """How many images a folder holds.

        Raises:
            ValueError: One, which has no negatives to be told from.
            OSError: None.
        """
        count = len(UnlabelledImages(data_root=str(folder)))
        if count < 2:
            raise ValueError(
                f'{folder} holds one image, which cannot be told from others: add more'
            )
        return count


def steps_done(run: Path) -> int:
    """The last training step that a run has logged."""
    try:
        return max(line['step'] for line in read_scalars(run) if 'loss' in line)
    except (FileNotFoundError, ValueError):  # not begun
        return 0
