"""The quickstart's own pictures: the loss of its pre-training, and what its detectors find."""

from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO

from mcl_mm.evaluation.charts import plt, save
from mcl_mm.evaluation.run_log import curves, read_scalars

COLOURS = plt.get_cmap('Set1')


def draw_loss(run: Path, path: Path) -> None:
    """Draw the loss of a pre-training run, level by level, into a PNG file."""
    figure, axis = plt.subplots(figsize=(5, 3.6), layout='constrained')
    for level, points in curves(read_scalars(run), 'chance_ratio').items():
        axis.plot(*points, label=f'level {level}')
    axis.axhline(1, color='grey', linestyle=':')
    axis.set(xlabel='iteration', ylabel='loss / loss at chance')
    axis.legend()
    save(figure, path)


def draw_objects(picture: np.ndarray, objects: list[tuple], classes: list[str]) -> np.ndarray:
    """Outline objects on a picture that is enlarged twice.

    Args:
        picture (np.ndarray): uint8 BGR, ``(H, W, 3)``.
        objects (list[tuple]): Of each its box (x, y first, pixels), its label and its mask ``(H, W)``.
        classes (list[str]): Names of the labels.

    Returns:
        np.ndarray: uint8 BGR, ``(2 H, 2 W, 3)``.
    """
    picture = cv2.resize(picture, None, fx=2, fy=2)
    for box, label, mask in objects:
        colour = [255 * c for c in COLOURS(label)[2::-1]]
        mask = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1])
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour, 2)
        x, y = (2 * np.asarray(box)[:2]).astype(int).tolist()
        for shade, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                picture, classes[label], (x, y + 10), cv2.FONT_HERSHEY_SIMPLEX, 0.4, shade, width
            )
    return picture


def find_objects(run: Path, paths: list[str], threshold: float) -> list[list[tuple]]:
    """What the detector of a finished run finds in each image, above a score."""
    from mmdet.apis import inference_detector, init_detector  # prints when it is imported

    model = init_detector(
        str(run / 'config.py'), (run / 'last_checkpoint').read_text(), device='cpu'
    )
    found = [inference_detector(model, path).pred_instances.numpy() for path in paths]
    found = [instances[instances.scores > threshold] for instances in found]
    return [list(zip(f.bboxes, f.labels, f.masks)) for f in found]


def draw_detections(
    scenes: Path, runs: dict[str, Path], path: Path, count: int = 6, threshold: float = 0.3
) -> None:
    """Draw rows of validation scenes: the labels, then what the detector of each run finds.

    Args:
        scenes (Path): The data set.
        runs (dict[str, Path]): Finished runs by the name of their row.
        path (Path): The PNG file to write.
        count (int): Scenes in a row. Defaults to 6.
        threshold (float): Detections of a lower score are left out. Defaults to 0.3.
    """
    coco = COCO(scenes / 'annotations/val.json')
    classes = [c['name'] for c in coco.loadCats(coco.getCatIds())]
    images = coco.loadImgs(coco.getImgIds()[:count])
    paths = [str(scenes / 'val' / image['file_name']) for image in images]
    labels = [
        [(o['bbox'], o['category_id'], coco.annToMask(o)) for o in coco.imgToAnns[image['id']]]
        for image in images
    ]
    rows = {'labels': labels}
    rows |= {name: find_objects(run, paths, threshold) for name, run in runs.items()}
    lines = []
    for name, row in rows.items():
        cells = [draw_objects(cv2.imread(p), objects, classes) for p, objects in zip(paths, row)]
        line = cv2.copyMakeBorder(np.hstack(cells), 24, 4, 0, 0, cv2.BORDER_CONSTANT)
        cv2.putText(line, name, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1)
        lines.append(line)
    cv2.imwrite(str(path), np.vstack(lines))
