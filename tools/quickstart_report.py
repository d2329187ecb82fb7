"""The last stage of tools/quickstart.sh: curves, detections and one table.

python tools/quickstart_report.py work_dirs/quickstart
"""

import argparse
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from plot_run import curves, read_scalars

METRICS = {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}


def plot_curves(out: Path, finetunes: dict[str, list[list[dict]]]) -> Path:
    """Loss of pre-training, and of fine-tuning from both starts."""
    figure, axes = plt.subplots(1, 1 + bool(finetunes), figsize=(5 + 5 * bool(finetunes), 4))
    axes = np.atleast_1d(axes)
    for level, points in curves(read_scalars(out / 'pretrain'), 'chance_ratio').items():
        axes[0].plot(*points, label=f'level {level}')
    axes[0].set(title='pre-training', xlabel='iteration', ylabel='loss / loss at chance')
    axes[0].legend()
    for start, runs in finetunes.items():
        for run in runs:
            points = [(s['step'], s['loss']) for s in run if 'loss' in s]
            colour = dict(export='tab:blue', random='tab:orange')[start]
            axes[1].plot(*zip(*points), color=colour, label=f'from {start}')
    if finetunes:
        axes[1].set(title='fine-tuning', xlabel='iteration', ylabel='loss')
        handles = dict(zip(*reversed(axes[1].get_legend_handles_labels())))
        axes[1].legend(handles.values(), handles.keys())
    figure.tight_layout()
    figure.savefig(out / 'curves.png', dpi=110)
    return out / 'curves.png'


def draw_objects(picture: np.ndarray, objects: list[tuple], classes: list[str]) -> np.ndarray:
    """Outline objects ``(box xyxy, label, mask)`` on a BGR picture, enlarged twice."""
    colours = plt.get_cmap('Set1')(range(len(classes)))[:, 2::-1] * 255
    picture = cv2.resize(picture, None, fx=2, fy=2)
    for box, label, mask in objects:
        mask = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1])
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colours[label].tolist(), 2)
        x, y = (2 * np.asarray(box)[:2]).astype(int).tolist()
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                picture, classes[label], (x, y + 10), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, width
            )
    return picture


def draw_detections(out: Path, count: int = 6, threshold: float = 0.3) -> Path:
    """Rows of validation scenes: the truth, then what the detector of each start finds."""
    from mmdet.apis import inference_detector, init_detector
    from pycocotools.coco import COCO

    coco = COCO(out / 'scenes/annotations/val.json')
    classes = [c['name'] for c in coco.loadCats(coco.getCatIds())]
    images = coco.loadImgs(coco.getImgIds()[:count])
    paths = [str(out / 'scenes/val' / image['file_name']) for image in images]
    rows = dict(
        truth=[
            [(o['bbox'], o['category_id'], coco.annToMask(o)) for o in coco.imgToAnns[image['id']]]
            for image in images
        ]
    )
    for start in ('random', 'export'):
        run = out / f'finetune-{start}-0'
        checkpoint = (run / 'last_checkpoint').read_text()
        model = init_detector(str(run / 'finetune.py'), checkpoint, device='cpu')
        rows[f'from {start}'] = []
        for path in paths:
            found = inference_detector(model, path).pred_instances.numpy()
            found = found[found.scores > threshold]
            rows[f'from {start}'].append(list(zip(found.bboxes, found.labels, found.masks)))
    lines = []
    for name, row in rows.items():
        cells = [draw_objects(cv2.imread(p), objects, classes) for p, objects in zip(paths, row)]
        line = cv2.copyMakeBorder(np.hstack(cells), 24, 4, 0, 0, cv2.BORDER_CONSTANT)
        cv2.putText(line, name, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1)
        lines.append(line)
    cv2.imwrite(str(out / 'detections.png'), np.vstack(lines))
    return out / 'detections.png'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='where tools/quickstart.sh has put everything')
    out = parser.parse_args().out
    starts = ('random', 'export')
    finetunes = {s: [read_scalars(r) for r in sorted(out.glob(f'finetune-{s}-*'))] for s in starts}
    finetunes = {start: runs for start, runs in finetunes.items() if runs}
    pictures = [out / 'montage.png', plot_curves(out, finetunes)]
    if finetunes:
        pictures.append(draw_detections(out))

    print('\nminutes')
    for line in (out / 'seconds.txt').read_text().splitlines():
        name, seconds = line.split('\t')
        print(f'  {name:32}{int(seconds) / 60:6.1f}')
    if finetunes:
        seeds = len(finetunes['export'])
        print(f'\nMask R-CNN, same budget, {seeds} seed(s): mean (each)')
        print(f'  {"start":10}' + ''.join(f'{name:>28}' for name in METRICS.values()))
        for start, runs in finetunes.items():
            cells = []
            for key in METRICS:
                values = [100 * [s[key] for s in run if key in s][-1] for run in runs]
                each = ' '.join(f'{v:.1f}' for v in values)
                cells.append(f'{np.mean(values):.1f} ({each})'.rjust(28))
            print(f'  {start:10}' + ''.join(cells))
    print('\npictures\n  ' + '\n  '.join(str(p) for p in pictures))
    print(
        f"\nweights for MMDetection: load_from = '{out / 'export.pth'}' (README.md, Into a detector)"
    )


if __name__ == '__main__':
    main()
