"""A text index is a dict of texts in the order of first sight."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.texts import Texts
from state.text_index import TextIndex

some = st.sampled_from(["a", "b", "", "ä", "a\n", "aaaaaaaab", "aaaaaaaac", "x" * 128, None])
texts = st.lists(st.one_of(some, st.text(max_size=9)), max_size=12)


@given(st.lists(st.tuples(texts, texts), max_size=8))
def test_is_a_dict(batches):
    index, truth = TextIndex(), {}
    for asked, added in batches:
        found = index.find(Texts.of(asked)).tolist()
        assert found == [truth.get(text, -1) for text in asked]
        expected = [-1 if t is None else truth.setdefault(t, len(truth)) for t in added]
        assert index.number(Texts.of(added)).tolist() == expected
        assert list(index) == list(truth)
        assert index.texts(np.arange(len(truth))).tolist() == list(truth)


def test_many_texts_are_told_apart_while_it_grows():
    index, names = TextIndex(), [f"user-{i * 7919 % 99_991}" for i in range(60_000)]
    for at in range(0, len(names), 7_000):
        part = names[at : at + 7_000]
        assert index.number(Texts.of(part)).tolist() == list(range(at, at + len(part)))
    assert index.find(Texts.of(names[::-1])).tolist() == list(range(len(names)))[::-1]
    assert index.bytes_held() < 60_000 * 60


def test_texts_whose_hashes_agree_are_told_apart():
    index = TextIndex()
    a, b = Texts.of(["ann", "bob"]), Texts.of(["eve", "bob"])
    same = np.array([7, 7], np.uint64)
    alike = [Texts(t._block, t.start, t.length, same) for t in (a, b)]
    assert index.number(alike[0]).tolist() == [0, 1]
    assert index.number(alike[1]).tolist() == [2, 1]


def test_a_number_that_was_never_given_is_refused():
    with pytest.raises(IndexError, match="must be below 0"):
        TextIndex()[0]


@given(texts, st.data())
def test_what_is_kept_is_renumbered_and_the_rest_is_forgotten(column, data):
    index = TextIndex()
    index.number(Texts.of(column))
    before = list(index)
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(before)))))) if before else []
    moved = index.keep(np.array(chosen, dtype=np.int64))
    assert list(index) == [before[i] for i in chosen]
    places = [chosen.index(i) if i in chosen else -1 for i in range(len(before))]
    assert moved.tolist() == places
    assert index.find(Texts.of(before)).tolist() == places
    assert index.texts(np.array([-1])).tolist() == [None]


@given(st.lists(st.tuples(texts, st.sets(st.integers(0, 30)), st.booleans()), max_size=12))
def test_forgotten_texts_are_not_found_and_their_numbers_are_given_again(steps):
    index, truth, waiting, free = TextIndex(), {}, {}, set()
    for added, chosen, release in steps:
        out, new = index.numbered(Texts.of(added))
        for text, number in zip(added, out.tolist(), strict=True):
            if text is None:
                assert number == -1
            elif text in truth:
                assert number == truth[text]
            else:
                truth[text] = number
                assert number not in waiting
                assert number in free or number == max([-1, *truth.values(), *waiting, *free])
                free.discard(number)
        assert len(set(new.tolist())) == len(new)
        gone = {text: number for text, number in truth.items() if number in chosen}
        index.forget(np.array(list(gone.values()), dtype=np.int64))
        truth = {text: number for text, number in truth.items() if text not in gone}
        waiting |= {number: text for text, number in gone.items()}
        assert index.find(Texts.of(list(gone))).tolist() == [-1] * len(gone)
        assert [index[number] for number in waiting] == list(waiting.values())
        if release:
            index.release(np.array(list(waiting), dtype=np.int64))
            free |= waiting.keys()
            waiting = {}
        assert index.find(Texts.of(list(truth))).tolist() == list(truth.values())
        numbers = np.array(list(truth.values()), dtype=np.int64)
        assert index.texts(numbers).tolist() == list(truth)
        assert index.known == len(truth)
        assert len(index) == len(truth) + len(waiting) + len(free)


def test_an_index_whose_texts_come_and_go_stays_small():
    index, sizes = TextIndex(), []
    for generation in range(300):
        names = [f"user-{generation:03}-{i}" for i in range(200)]
        numbers = index.number(Texts.of(names))
        assert index.texts(numbers).tolist() == names
        sizes.append(len(index._block) + index._places.nbytes + index._starts.nbytes)
        index.forget(numbers[::2])
        index.release(numbers[::2])
        index.forget(numbers[1::2])
        index.release(numbers[1::2])
        assert (len(index), index.known) == (200, 0)
    assert max(sizes) == max(sizes[:50]) < 40_000
