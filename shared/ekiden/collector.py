"""Python's garbage collector in processes that stream."""

import gc


def keep_out_of_collections() -> None:
    """Take what is there now, modules above all, out of all further collections: it lives as long as the process.

    A full collection would go through hundreds of thousands of objects, and every stream would stand still meanwhile.
    """
    gc.collect()
    gc.freeze()
