"""From a file of weights into a detector.

``fit`` gives weights the detector's names, ``load_report`` counts what lands where, ``judge`` refuses what
does not belong together, ``rules`` is the book of what spoils weights; ``doctor`` prints what the rules
find, ``adapt`` writes a config with their changes made.
"""
