"""What compiled loops allocate they give back.

One that is compiled without counting who holds what would never free an array of its own.
"""

import gc

from numba.core.runtime import _nrt_python, rtsys

from dataflows import warm


def test_all_memory_of_loops_is_given_back():
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        for part in (warm.decoder, warm.lists, warm.models, warm.whole_lane):
            part()
        gc.collect()
        after = rtsys.get_allocation_stats()
    finally:
        _nrt_python.memsys_disable_stats()
    allocated, freed = after.alloc - before.alloc, after.free - before.free
    assert allocated > 0  # by those that say so
    assert allocated == freed
