"""The lane: the users of some shards, kept current batch by batch.

One batch goes through it in this order::

    admit (skip what is covered, drop duplicates) ▸ fire the timers that came before it
    ▸ update every feature ▸ decide segments ▸ move the clock ▸ fire the timers it passed

All of it is in memory. ``collect`` then says what one atomic write per shard must hold, and
``settle`` takes note that it was written. The lane reads no clock and touches no server; the same
batches and the same times always lead to the same state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from state.clock import Clock
from state.commit import ShardCommit, StoredShard
from state.groups import Groups, group
from state.positions import Positions
from state.rfm import Cuts
from state.table import Column, Table
from state.times import NEVER_MS
from state.users import COLUMNS as USER_COLUMNS
from state.users import Users

I64 = NDArray[np.int64]
