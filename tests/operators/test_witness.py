"""The first error is seen where it is raised, told once, and goes on its way."""

import pytest

from operators.witness import Witness


class Part:
    """A part of a source: gives numbers, then ends, then breaks."""

    def __init__(self, count):
        self.left = count

    def next_batch(self):
        self.left -= 1
        if self.left == -1:
            raise StopIteration
        if self.left < -1:
            raise ValueError(f"read {-self.left} too far")
        return [self.left]

    def close(self):
        raise OSError("cannot close")


class Source:
    """Builds parts, but for one."""

    def build_part(self, step_id, part, resume):
        if part == "none":
            raise KeyError(part)
        return Part(int(part))


def test_what_goes_well_passes_through():
    witness = Witness()

    def joined(first, *, second):
        """Both."""
        return f"{first}{second}"

    watched = witness.watched(joined)
    assert watched("a", second="b") == "ab"
    assert (watched.__name__, watched.__doc__) == ("joined", "Both.")
    assert witness.first is None


def test_the_first_error_is_told_before_it_goes_on_and_no_other():
    told = []
    witness = Witness(told.append)
    pop, fetch = witness.watched([].pop), witness.watched({}.__getitem__)
    with pytest.raises(IndexError) as first:
        pop()
    assert told == [first.value]
    for function, error in ((fetch, KeyError), (pop, TypeError)):
        with pytest.raises(error):
            function("x")
    assert told == [first.value]
    assert witness.first is first.value


def test_it_can_end_everything_where_the_error_is():
    def end(error):
        raise SystemExit(f"ended by {error}")

    with pytest.raises(SystemExit, match="ended by pop from empty list"):
        Witness(end).watched([].pop)()


def test_nested_watches_tell_an_error_once():
    told = []
    witness = Witness(told.append)
    with pytest.raises(IndexError):
        witness.watched(witness.watched([].pop))()
    assert len(told) == 1


@pytest.mark.parametrize("kind", [StopIteration, KeyboardInterrupt, SystemExit])
def test_an_end_is_no_error(kind):
    told = []
    witness = Witness(told.append)

    def end():
        raise kind

    with pytest.raises(kind):
        witness.watched(end)()
    assert (told, witness.first) == ([], None)


def test_methods_of_one_object_are_watched():
    witness, part = Witness(), Part(1)
    assert witness.watch(part, "next_batch") is part
    assert part.next_batch() == [0]
    with pytest.raises(OSError, match="cannot close"):
        part.close()
    assert witness.first is None, "close was not put under watch"
    with pytest.raises(StopIteration):
        part.next_batch()
    with pytest.raises(ValueError, match="read 2 too far") as raised:
        part.next_batch()
    assert witness.first is raised.value


def test_parts_of_a_source_are_watched_as_they_are_built():
    witness = Witness()
    source = witness.watch_parts(Source(), "next_batch", "close")
    parts = [source.build_part("source", text, None) for text in ("1", "0")]
    assert parts[0].next_batch() == [0]
    with pytest.raises(OSError, match="cannot close") as raised:
        parts[1].close()
    assert witness.first is raised.value


def test_a_part_that_cannot_be_built_is_seen():
    witness = Witness()
    with pytest.raises(KeyError) as raised:
        witness.watch_parts(Source(), "next_batch").build_part("source", "none", None)
    assert witness.first is raised.value
