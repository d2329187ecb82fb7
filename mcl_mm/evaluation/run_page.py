"""How pre-training went, on one page: curves, sheets and nearest neighbours."""

import base64
import html
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import find_latest_checkpoint

from mcl_mm.files import make_folder, write_text
from mcl_mm.models import MCL, MontageModel
from mcl_mm.models.montage import Montage, cut
from mcl_mm.reading import building, read_config
from mcl_mm.registry import MODELS
from mcl_mm.transfer import read_checkpoint

from .charts import Line2D, plt, save
from .montage_picture import build_montage, draw_side
from .probe import normalise
from .run_log import curves, read_scalars

# Title, scalar, and what to compare it with: a number, another scalar, or nothing.
PANELS = (
    ('loss', 'loss', None),
    ('loss of a level / loss at chance', 'chance_ratio', 1),
    ('cosine to the own image', 'pos_cos', None),
    ('tiles that find their own image', 'acc', None),
    ('standard deviation of embeddings', 'std', None),
    ('effective rank of embeddings', 'rank', None),
    ('distance to the embeddings of level 0', 'gap', None),
    ('gradient norm', 'grad_norm', None),
    ('learning rate', 'lr', None),
    ('momentum of the target', 'momentum', None),
    ('images a second', 'images_per_second', None),
    ('share of time spent waiting for data', 'data_share', None),
    ('k-NN probe, accuracy', 'knn_acc', 'knn_chance'),
    ('dense probe, accuracy', 'dense_acc', 'dense_chance'),
)
STYLES = ('-', '--', '-.', ':')  # of levels, where colours tell runs
QUERIES, NEIGHBOURS, THUMB = 3, 5, 96  # a level; thumbnails in pixels


def draw_curves(figure, runs: dict[str, list[dict]]) -> None:
    """All panels that any run has values for; colours tell levels, or runs if there are several."""
    panels = [p for p in PANELS if any(curves(scalars, p[1]) for scalars in runs.values())]
    several = len(runs) > 1
    keys = {}  # of the legend: what a line is called, and one that looks like it
    axes = figure.subplots(-(-len(panels) // 4), 4, squeeze=False).flatten()
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, (title, name, reference) in zip(axes, panels):
        for run, (label, scalars) in enumerate(runs.items()):
            for level, points in curves(scalars, name).items():
                index = int(level or 0)
                colour = f'C{run}' if several else f'C{index}'
                style = STYLES[index % len(STYLES)] if several else '-'
                marker = '.' if len(points[0]) < 15 else None
                ax.plot(*points, color=colour, linestyle=style, marker=marker, label=label)
                if several:
                    keys[label] = Line2D([], [], color=colour)
                if level:
                    keys[f'level {level}'] = Line2D(
                        [], [], color='grey' if several else colour, linestyle=style
                    )
            if isinstance(reference, str):
                for points in curves(scalars, reference).values():
                    ax.plot(*points, color='grey', linestyle=':')
        if isinstance(reference, int):
            ax.axhline(reference, color='grey', linestyle=':')
        ax.set_title(title, fontsize=10)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3)
    if keys:
        figure.legend(keys.values(), keys, loc='outside upper center', ncols=8, fontsize=9)
    figure.supxlabel('iteration', fontsize=9)


def load_run(run: Path) -> tuple[Config, MontageModel, str]:
    """Config, model with the newest weights, and the name of the checkpoint."""
    configs = sorted(run.glob('*/vis_data/config.py'))
    if not configs:
        raise FileNotFoundError(f'no */vis_data/config.py in {run}')
    if not (run / 'last_checkpoint').exists():
        raise FileNotFoundError(f'no checkpoint in {run}')
    # Only the name, since the folder may have been moved.
    checkpoint = run / Path(find_latest_checkpoint(str(run))).name
    cfg = read_config(str(configs[-1]))
    init_default_scope(cfg.get('default_scope', 'mcl_mm'))
    with building(cfg.filename):
        model = MODELS.build(cfg.model)
    if not isinstance(model, MontageModel):
        raise ValueError(f'{type(model).__name__} has no montage')
    model.load_state_dict(read_checkpoint(checkpoint)['state_dict'])
    return cfg, model, checkpoint.name


def thumbnail(image: torch.Tensor, colour: tuple[int, int, int], text: str) -> np.ndarray:
    """An image, ``(3, S, S)`` uint8 BGR, at one size with a frame and a text."""
    picture = image.permute(1, 2, 0).contiguous().numpy()
    picture = cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_NEAREST)
    picture = cv2.copyMakeBorder(picture, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=colour)
    for shade, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, shade, width)
    return picture


@torch.no_grad()
def draw_neighbours(model: MCL, q: Montage, k: Montage) -> tuple[np.ndarray, list[str]]:
    """Per level some tiles of side *q*, each with the full images of side *k* nearest to it.

    As in training, with the statistics of this batch. Returns the picture, BGR, and a sentence for
    each level.
    """
    model.train()
    normalised = [Montage(tuple(normalise(model, s) for s in m.sheets), m.sources) for m in (q, k)]
    target = F.normalize(model.embed_images(normalised[1]), dim=1)
    rows, sentences = [], []
    for level, embedding in model.embed_tiles(normalised[0]).items():
        predicted = F.normalize(model.head.predict(embedding, level), dim=1)
        cosine, sources = predicted @ target.t(), q.sources[level]
        right = (cosine.argmax(dim=1) == sources).sum().item()
        sentences.append(
            f'level {level}: {right} of {len(sources)} tiles find their own among {len(target)} images'
        )
        tiles = cut(q.sheets[level], q.sheets[0].shape[-1] // 2**level)
        row = []
        for tile in range(0, len(tiles), -(-len(tiles) // QUERIES)):
            row.append(thumbnail(tiles[tile], (0, 0, 0), f'tile, level {level}'))
            values, nearest = cosine[tile].topk(min(NEIGHBOURS, len(target)))
            for value, image in zip(values.tolist(), nearest.tolist()):
                colour = (0, 200, 0) if image == sources[tile] else (160, 160, 160)
                row.append(thumbnail(k.sheets[0][image], colour, f'{value:.2f}'))
            row.append(np.full((THUMB + 6, 12, 3), 255, np.uint8))
        rows.append(np.hstack(row))
    width = max(row.shape[1] for row in rows)
    rows = [
        cv2.copyMakeBorder(r, 0, 4, 0, width - r.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3)
        for r in rows
    ]
    return np.vstack(rows), sentences


def pictures(run: Path, count: int, seed: int) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Titled pictures, BGR, of a run, and sentences; without data or weights just the reason."""
    try:
        cfg, model, checkpoint = load_run(run)
        q, k = build_montage(cfg, count, seed)
        images, sentences = [], []
        if isinstance(model, MCL):
            neighbours, sentences = draw_neighbours(model, q, k)
            title = f'{run}: tiles and the full images nearest to them, {checkpoint} (green: the own image)'
            images.append((title, neighbours))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        return [], [f'No pictures of {run}: {error}']
    sheets = np.vstack([draw_side(side, name) for side, name in ((q, 'q'), (k, 'k'))])
    return [(f'{run}: sheets', sheets), *images], [f'{run}, {s}.' for s in sentences]


def draw_page(
    path: Path, runs: dict[str, list[dict]], images: list[tuple[str, np.ndarray]]
) -> None:
    """Curves on top, pictures below."""
    width = 16
    heights = [9, *(width * i.shape[0] / i.shape[1] + 0.4 for _, i in images)]
    figure = plt.figure(figsize=(width, sum(heights)), layout='constrained')
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    draw_curves(parts[0], runs)
    for part, (title, image) in zip(parts[1:], images):
        ax = part.subplots()
        ax.imshow(image[..., ::-1])
        ax.set_title(title, fontsize=10)
        ax.axis('off')
    save(figure, path)


def write_html(path: Path, page: Path, runs: dict[str, list[dict]], sentences: list[str]) -> None:
    """The picture, the sentences and a table of the first and last values, in one file."""
    rows = []
    for title, name, _ in PANELS:
        found = {label: curves(scalars, name) for label, scalars in runs.items()}
        for level in sorted({level for levels in found.values() for level in levels}):
            cells = [title + (f', level {level}' if level else '')]
            for levels in found.values():
                values = levels.get(level, ([], []))[1]
                cells.append(f'{values[0]:.4g} → {values[-1]:.4g}' if values else '')
            rows.append(''.join(f'<td>{html.escape(cell)}</td>' for cell in cells))
    head = ''.join(
        f'<th>{html.escape(label)}<br>to iteration {scalars[-1]["step"]}</th>'
        for label, scalars in runs.items()
    )
    image = base64.b64encode(page.read_bytes()).decode()
    write_text(
        path,
        '<!DOCTYPE html><html><head><meta charset="utf-8"><title>pre-training</title><style>'
        'body{font-family:sans-serif;margin:2em}img{max-width:100%}td,th{padding:.2em 1em;'
        'border-bottom:1px solid #ddd;text-align:left}</style></head><body>\n'
        f'<h1>{html.escape(" and ".join(runs))}</h1>\n'
        + ''.join(f'<p>{html.escape(sentence)}</p>\n' for sentence in sentences)
        + f'<img src="data:image/png;base64,{image}" alt="curves and pictures">\n'
        f'<table><tr><th>first → last</th>{head}</tr>\n'
        + ''.join(f'<tr>{row}</tr>\n' for row in rows)
        + '</table></body></html>\n',
    )


def write_page(runs: list[Path], out: Path, count: int = 32, seed: int = 0) -> list[str]:
    """Write ``run.png`` and ``run.html``, one file to be sent around.

    Args:
        runs (list[Path]): Work directories. They share the axes.
        out (Path): Folder to write to.
        count (int): Images of a montage; 0 for curves alone. Defaults to 32.
        seed (int): Which images and tiles. Defaults to 0.

    Returns:
        list[str]: What the pictures show, in sentences.

    Raises:
        OSError: A run has logged nothing, or the folder cannot be written to.
    """
    names = [run.resolve().name for run in runs]
    labels = names if len(set(names)) == len(names) else list(map(str, runs))
    scalars = {label: read_scalars(run) for label, run in zip(labels, runs)}
    make_folder(out)
    images, sentences = [], []
    for run in runs if count else ():
        drawn, said = pictures(run, count, seed)
        images, sentences = images + drawn, sentences + said
    draw_page(out / 'run.png', scalars, images)
    write_html(out / 'run.html', out / 'run.png', scalars, sentences)
    return sentences
