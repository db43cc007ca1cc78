"""A file is dealt to its partitions as a deck of cards is, whatever the size of a read."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.file_source import FileSource
from operators.stop import Stop
from tests.operators.logs import assert_chained, at_ends, payloads


def read_all(count, partitions, rows):
    """Every read of a file of ``count`` messages."""
    source = FileSource(
        "file", lambda: (b"%d" % i for i in range(count)), partitions=partitions, rows=rows
    )
    assert source.list_parts() == ["file"]
    reader = source.build_part("source", "file", None)
    reads = []
    while True:
        try:
            reads += reader.next_batch()
        except StopIteration:
            return reads


@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 25))
def test_events_are_dealt_round_robin(count, partitions, rows):
    reads = read_all(count, partitions, rows)
    dealt = [[] for _ in range(partitions)]
    for i in range(count):
        dealt[i % partitions].append(i)
    got = [[] for _ in range(partitions)]
    for read in reads:
        assert len(read.payloads) <= rows
        for payload, p, offset in zip(
            read.payloads, read.partition.tolist(), read.offset.tolist(), strict=True
        ):
            assert offset == len(got[p])
            got[p].append(int(payload))
    assert got == dealt
    assert list(map(int, payloads(reads))) == list(range(count))
    assert assert_chained(reads, {}) == {p: len(mine) for p, mine in enumerate(dealt)}


@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 25))
def test_a_hello_comes_first_and_the_end_only_last(count, partitions, rows):
    reads = read_all(count, partitions, rows)
    assert [(s.partition, s.start, s.stop) for s in reads[0].spans] == [
        (p, 0, 0) for p in range(partitions)
    ]
    assert len(reads) >= 2
    for read in reads[:-1]:
        assert read.more
        assert not any(span.at_end for span in read.spans)
    assert at_ends(reads)
    assert not reads[-1].more


def test_a_file_has_no_timestamps_of_its_own():
    for read in read_all(10, 2, 4):
        assert read.record_ts_ms.tolist() == [-1] * len(read.payloads)
        assert (read.topic, read.keys) == ("file", None)


def test_the_file_is_opened_anew_for_each_run():
    source = FileSource("file", lambda: iter([b"a", b"b"]))
    for _ in range(2):
        reader = source.build_part("source", "file", None)
        assert payloads([*reader.next_batch(), *reader.next_batch()]) == [b"a", b"b"]
        with pytest.raises(StopIteration):
            reader.next_batch()


def until_the_end(reader):
    """Everything that a reader still has to give."""
    reads = []
    with suppress(StopIteration):
        while True:
            reads += reader.next_batch()
    return reads


def test_a_file_that_breaks_off_ends_there_and_the_source_keeps_the_error():
    broken = ValueError("broken")

    def breaking():
        yield from (b"%d" % n for n in range(7))
        raise broken

    source = FileSource("file", breaking, partitions=2, rows=3)
    reads = until_the_end(source.build_part("source", "file", None))
    assert payloads(reads) == [b"%d" % n for n in range(7)]
    assert at_ends(reads)
    assert source.error is broken


def test_a_file_that_cannot_be_opened_has_no_message():
    def refuse():
        raise OSError("refused")

    source = FileSource("file", refuse)
    assert payloads(until_the_end(source.build_part("source", "file", None))) == []
    assert str(source.error) == "refused"


def test_a_raised_flag_ends_the_input_before_the_next_read():
    stop = Stop()
    source = FileSource("file", lambda: iter([b"a", b"b", b"c"]), rows=1, stop=stop)
    reader = source.build_part("source", "file", None)
    reads = [*reader.next_batch(), *reader.next_batch()]
    stop.request()
    assert payloads(reads + until_the_end(reader)) == [b"a"]
    assert source.error is None
