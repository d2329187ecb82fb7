"""What the config of a run says about its model, read as data: the config is not run."""

import ast
import contextlib
from collections.abc import Collection
from typing import Any, Optional


def read_input(config: str) -> Optional[dict]:
    """What images a model was trained on, from the data preprocessor in its config.

    Args:
        config (str): Text of an MMEngine config, such as ``meta['cfg']`` of its checkpoints.

    Returns:
        dict, optional: ``channel_order`` ('RGB' or 'BGR'), ``mean`` and ``std`` (lists in the range 0
        to 255, or None where nothing is normalised). None if it cannot be told.
    """
    preprocessor = read_model_part(config, 'data_preprocessor')
    if preprocessor is None:
        return None
    swapped = preprocessor.get('bgr_to_rgb') or preprocessor.get('rgb_to_bgr')
    mean, std = (preprocessor.get(key) for key in ('mean', 'std'))
    return dict(
        channel_order='RGB' if swapped else 'BGR',  # images are read as BGR
        mean=mean and list(mean),
        std=std and list(std),
    )


def read_model_part(config: str, part: str) -> Optional[dict]:
    """``model.<part>`` of a config's text, or None if it is not there or is not plain data.

    Args:
        config (str): Text of an MMEngine config, with its bases merged in.
        part (str): For example ``'backbone'``.

    Returns:
        dict, optional: The part.
    """
    try:
        for statement in ast.parse(config).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == 'model':
                for keyword in getattr(statement.value, 'keywords', []):
                    if keyword.arg == part:
                        value = evaluate(keyword.value)
                        return value if isinstance(value, dict) else None
    except (SyntaxError, ValueError, TypeError, RecursionError):
        pass
    return None


def read_parts(config: str, names: Collection[str]) -> dict[str, Any]:
    """Parts of a config's text that are plain data.

    Args:
        config (str): Text of an MMEngine config, with its bases merged in.
        names (Collection[str]): For example ``('model', 'train_cfg')``.

    Returns:
        dict[str, Any]: By name; without those that are not there, or are no plain data.
    """
    found = {}
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        for statement in ast.parse(config).body:
            name = ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else None
            if name in names:
                with contextlib.suppress(ValueError, TypeError):
                    found[name] = evaluate(statement.value)
    return found


def evaluate(node: ast.expr) -> Any:
    """The value of literals and ``dict(...)`` calls; ValueError for anything else."""
    if isinstance(node, ast.Call):
        if ast.unparse(node.func) != 'dict':
            raise ValueError(f'{ast.unparse(node.func)}(...) is not data')
        parts = [evaluate(argument) for argument in node.args]
        return dict(*parts, **{key.arg: evaluate(key.value) for key in node.keywords})
    if isinstance(node, ast.Dict):
        return {evaluate(key): evaluate(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [evaluate(value) for value in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)
