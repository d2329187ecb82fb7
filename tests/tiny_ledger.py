"""Entries of a small ledger: two starts over labels and budgets, a third, and another rate."""

VERSIONS = dict(versions={}, device='CPU, 2 cores', processes=1, command='mcl-mm compare', schema=1)


def finetuning(identity, start, seed, ap, labels=100, fold=1, before=None, **more):
    origin = dict(parts=[], **(dict(pretraining=before) if before else {}))
    train = dict(name=f'set/{fold}', images=labels, digest=f'{labels}-{fold}')
    val = dict(name='set/val', images=60, digest='val')
    metrics = {'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': 2 * ap, 'coco/bbox_mAP_s': 0.9}
    facts = dict(kind='finetune', identity=identity, detector='retina', config='c', start=start, seed=seed,
                 origin=origin, train=train, val=val, images_seen=1000, minutes=2.0, metrics=metrics,
                 finished='2026-01-01T00:00:00Z')  # fmt: skip
    return facts | VERSIONS | more


def pretraining(identity, config, seed, spent, minutes):
    return dict(kind='pretrain', identity=identity, method='mcl', config=config, seed=seed, minutes=minutes,
                train=dict(name='set', images=500, digest='d'), images_seen=4000, multiply_adds=spent,
                metrics={}, finished='2026-01-01T00:00:00Z', **VERSIONS)  # fmt: skip


ENTRIES = [
    pretraining('p0', 'short', 0, 2e12, 1.0),
    pretraining('p1', 'short', 1, 2e12, 4.0),
    pretraining('p2', 'long', 0, 8e12, 9.0),
    finetuning('a', 'mcl', 0, 0.30, before='p0'),
    finetuning('b', 'mcl', 1, 0.34, before='p1', fold=2),
    finetuning('c', 'mcl', 0, 0.40, before='p2'),
    finetuning('d', 'random', 0, 0.10),
    finetuning('e', 'random', 1, 0.30, fold=2, minutes=None),
    finetuning('f', 'random', 0, 0.50, labels=50),
    finetuning('g', 'random', 0, 0.9, config='other rate'),
    finetuning('h', 'coco', 0, 0.45) | dict(origin=dict(parts=[], weights='sha')),
]
