"""Rules about images: they come in as they did in pre-training."""

from typing import Optional

from .case import Case, Finding, curable

TOLERANCE = 0.01  # of a mean or deviation: published ones are rounded


def other_input(case: Case) -> Optional[Finding]:
    """Images in another colour order or scale than the weights were trained with."""
    trained = case.meta.get('input')
    ours = (case.cfg.get('model') or {}).get('data_preprocessor') or case.cfg.get(
        'data_preprocessor'
    )
    if not isinstance(trained, dict) or not ours or not case.loads('backbone.'):
        return None
    # MMCV reads images as BGR.
    order = 'RGB' if ours.get('bgr_to_rgb') or ours.get('rgb_to_bgr') else 'BGR'
    given = dict(channel_order=order, mean=ours.get('mean'), std=ours.get('std'))
    differ = [key for key, value in given.items() if not same(trained.get(key), value)]
    if not differ:
        return None
    described = ' / '.join(
        f'{d.get("channel_order")}, mean {d.get("mean")}, std {d.get("std")}'
        for d in (trained, given)
    )
    text = f'the weights were trained on other input than they get here: {described}'
    settings = {
        f'model.data_preprocessor.{name}': value
        for key, name, value in (
            ('channel_order', 'bgr_to_rgb', trained.get('channel_order') == 'RGB'),
            ('mean', 'mean', trained.get('mean')),
            ('std', 'std', trained.get('std')),
        )
        if key in differ
    }
    return curable('other-input', text, settings)


def same(trained: object, given: object) -> bool:
    """Whether two colour orders, means or deviations agree; what a file does not tell does."""
    if isinstance(trained, str):
        return trained == given
    if not isinstance(trained, (list, tuple)):
        return True
    return (
        given is not None
        and len(trained) == len(given)
        and all(abs(x - y) <= TOLERANCE * max(abs(x), 1) for x, y in zip(trained, given))
    )


RULES = (other_input,)
