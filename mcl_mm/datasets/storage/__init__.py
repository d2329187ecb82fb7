"""Where images lie: loose files, tar shards, tables of HuggingFace ``datasets``.

An image has a path in each of them, which lists, logs and checkpoints name:

- a loose file: its own;
- in a shard: ``FOLDER/SHARD.tar/NAME``;
- in a table: ``FOLDER/SPLIT[COLUMN]/ROW_NAME``.

:func:`as_file` and :func:`read_bytes` alone turn a path into content.
"""

from .access import advise, as_file, find_store, find_table, read_bytes, unpacked

__all__ = ['advise', 'as_file', 'find_store', 'find_table', 'read_bytes', 'unpacked']
