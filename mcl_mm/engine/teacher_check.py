"""Does a teacher know anything? Random weights would teach nothing, and nobody would notice."""

from mmengine.logging import print_log
from torch import nn
from torch.utils.data import Dataset

from mcl_mm.datasets import inner_sets
from mcl_mm.datasets.teacher_view import find_teacher_view
from mcl_mm.models import Teacher
from mcl_mm.transfer import check_sources


def check_teacher(teacher: Teacher) -> None:
    """Refuse a teacher of whose weights a file has none, or only a part.

    Args:
        teacher (Teacher): Before its weights are loaded; afterwards they are.

    Raises:
        OSError: The file cannot be read.
        ValueError: There is no file, or it does not have all weights of the teacher.
    """
    # Named as in a config, for what the judge says.
    model = nn.ModuleDict(dict(teacher=nn.ModuleDict(dict(backbone=teacher.backbone))))
    judged = check_sources(model)
    loaded = getattr(teacher.backbone, 'is_init', False)  # timm's, when it is built
    if not judged and not loaded:
        raise ValueError(
            'the teacher has random weights: set model.teacher.backbone.init_cfg='
            "dict(type='Pretrained', checkpoint=FILE, prefix='backbone'), or of timm pretrained=True"
        )
    for source, report in judged:
        part = model.get_submodule(source.where)
        try:  # as the run will: layers may rename or resize what they read
            missing = part.load_state_dict(dict(source.state_dict()), strict=False).missing_keys
        except RuntimeError as error:
            raise ValueError(
                f'model.{source.where} does not fit {source.path}: {str(error).splitlines()[-1].strip()}'
            ) from error
        missing = [name for name in missing if not name.endswith('num_batches_tracked')]
        if missing:
            raise ValueError(
                f'{len(missing)} weights of model.{source.where} are not in {source.path}, first '
                f'{missing[0]}: give it the network the weights were trained with'
            )
        print_log(f'Weights of {source.path} in model.{source.where}:\n{report.table()}', 'current')


def check_teacher_views(dataset: Dataset, teacher: Teacher) -> None:
    """Refuse images that a teacher does not take, and embeddings that it would not give today.

    Args:
        dataset (Dataset): What the run trains on.
        teacher (Teacher): With its weights.

    Raises:
        ValueError: The images have another size; or embeddings are of other weights, of images prepared in
            another way, or not of all images.
    """
    for part in inner_sets(dataset):
        view, _, text = find_teacher_view(part)
        if view is not None and view.size != teacher.size:
            raise ValueError(
                f'TeacherView makes images of {view.size} pixels, and model.teacher takes {teacher.size}: '
                'give both one size'
            )
        if view is None or view.cache is None:
            continue
        path, about = view.cache.path, view.cache.about
        again = f'write it again with mcl-mm cache-teacher CONFIG --out {path}'
        if about.get('teacher') != teacher.fingerprint():
            raise ValueError(
                f'{path} has embeddings of another teacher, or of other weights: {again}'
            )
        if about.get('view') != text:
            raise ValueError(
                f'{path} has embeddings of images that were prepared as {about.get("view")}, this run '
                f'prepares them as {text}: {again}'
            )
        names = (part.get_data_info(index)['img_path'] for index in range(len(part)))
        absent = next((name for name in names if name not in view.cache), None)
        if absent is not None:
            raise ValueError(f'{path} has no embedding of {absent}: {again}')
