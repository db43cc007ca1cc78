"""Texts as codes: there and back, bounded, and from one vocabulary to another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.texts import Texts
from state.vocabulary import OTHER, Vocabulary

texts = st.lists(st.one_of(st.sampled_from(["a", "b", "", "ä", OTHER]), st.text(max_size=3)))


@given(st.lists(texts, max_size=6), st.integers(0, 8))
def test_the_first_texts_come_back_and_the_rest_read_as_other(batches, cap):
    vocabulary, kept = Vocabulary(cap), [OTHER]
    for batch in batches:
        for text in batch:
            if text not in kept and len(kept) <= cap:
                kept.append(text)
        read = [vocabulary.text(code) for code in vocabulary.codes(Texts.of(batch)).tolist()]
        assert read == [text if text in kept else OTHER for text in batch]
    assert vocabulary.take(np.arange(len(kept))).tolist() == kept
    assert len(vocabulary) == len(kept)
    assert [vocabulary.code(text) for text in kept] == list(range(len(kept)))


def test_asking_does_not_add():
    vocabulary = Vocabulary()
    assert vocabulary.code("new") == -1
    assert len(vocabulary) == 1


@pytest.mark.parametrize("code", [-1, 1])
def test_a_code_that_was_never_given_is_refused(code):
    with pytest.raises(IndexError, match="must be one of 0 to 0"):
        Vocabulary().text(code)
