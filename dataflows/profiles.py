"""The main job as a dataflow.

The picture of the architecture, in four parts::

    source ▸ decode, dead letters, to lanes ▸ lane (… commit) ▸ publish

One item is one batch, keys are lanes. Everything else is in the parts handed in, so that the same
flow runs over Kafka and Redis and over a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink

from events.batch import Batch, Read
from operators.lane_step import LaneBuilder
from operators.publish import Published


def build(
    source: FixedPartitionedSource[Read, None],
    decode: Callable[[list[Read]], Iterable[tuple[str, Batch]]],
    open_lane: LaneBuilder,
    publisher: FixedPartitionedSink[Published, None],
) -> Dataflow:
    """The dataflow over its four parts."""
    flow = Dataflow("profiles")
    reads = op.input("source", flow, source)
    batches = op.flat_map_batch("decode", reads, decode)
    changes = op.stateful_batch("lane", batches, open_lane)
    op.output("publish", changes, publisher)
    return flow
