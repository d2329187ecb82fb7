"""What tests of a model that learns from montages share."""


def total(losses):
    return sum(value for key, value in losses.items() if key.startswith('loss'))


def prepare(model, views):
    dtype = next(model.parameters()).dtype
    sides = model.data_preprocessor(dict(inputs=views))['inputs']
    return [m._replace(sheets=tuple(sheet.to(dtype) for sheet in m.sheets)) for m in sides]
