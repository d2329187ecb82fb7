"""The last stage of tools/quickstart.sh: the loss, detections, and where everything lies.

python tools/quickstart_report.py work_dirs/quickstart
"""

import argparse
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from mcl_mm.evaluation.run_log import curves, read_scalars


def plot_curves(out: Path) -> Path:
    """Loss of pre-training, level by level."""
    figure, axis = plt.subplots(figsize=(5, 4))
    for level, points in curves(read_scalars(out / 'pretrain'), 'chance_ratio').items():
        axis.plot(*points, label=f'level {level}')
    axis.set(title='pre-training', xlabel='iteration', ylabel='loss / loss at chance')
    axis.legend()
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
    for start in ('random', 'box_head'):
        run = out / f'finetune/{start}-0'
        checkpoint = (run / 'last_checkpoint').read_text()
        model = init_detector(str(run / 'config.py'), checkpoint, device='cpu')
        rows[start] = []
        for path in paths:
            found = inference_detector(model, path).pred_instances.numpy()
            found = found[found.scores > threshold]
            rows[start].append(list(zip(found.bboxes, found.labels, found.masks)))
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
    pictures = [out / 'montage.png', plot_curves(out)]
    if (out / 'finetune').exists():
        pictures += [draw_detections(out), out / 'finetune/comparison.png']

    print('\nminutes')
    for line in (out / 'seconds.txt').read_text().splitlines():
        name, seconds = line.split('\t')
        print(f'  {name:32}{int(seconds) / 60:6.1f}')
    print('\npictures\n  ' + '\n  '.join(str(p) for p in pictures))
    print(
        f"\nweights for MMDetection: load_from = '{out / 'export.pth'}' (README.md, Into a detector)"
    )


if __name__ == '__main__':
    main()
