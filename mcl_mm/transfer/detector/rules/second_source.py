"""Rules about where weights come from: one file, and no other beside it."""

from typing import Optional

from ..sources import SOURCES, start_is_a_file
from .case import Case, Finding, curable

# Parts that load_from fills.
FILLED = ('model', 'model.backbone', 'model.neck', 'model.neck.0')


def second_source(case: Case) -> Optional[Finding]:
    """An initialisation from another file, which ``load_from`` overwrites."""
    if not case.loads('backbone.'):
        return None
    found = {}
    model = case.cfg.get('model') or {}
    neck = model.get('neck') or {}
    parts = (model, model.get('backbone') or {}, neck, neck[0] if isinstance(neck, list) else {})
    for path, part in zip(FILLED, parts):
        for name in SOURCES if isinstance(part, dict) else ():
            source = part.get(name)
            if source is True or start_is_a_file(source):
                found[f'{path}.{name}'] = source
    if not found:
        return None
    path, source = next(iter(found.items()))
    where = path.rsplit('.', 1)[0].removeprefix('model.')
    file = source.get('checkpoint') if isinstance(source, dict) else source
    text = (
        f'{where} also starts from {"a file of its library" if file is True else file}: load_from '
        'overwrites what it has, and whatever it lacks quietly stays from there'
    )
    # timm's wrapper has a flag
    return curable(
        'second-source', text, {p: False if s is True else None for p, s in found.items()}, case.cfg
    )


RULES = (second_source,)
