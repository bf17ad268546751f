"""Vocabularies: ids and events are one to one, and what is outside is said to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import Range, Vocabulary


@st.composite
def vocabularies(draw):
    sizes = draw(st.lists(st.tuples(st.integers(-20, 200), st.integers(1, 50)), min_size=1, max_size=6))
    return Vocabulary(tuple(Range(f"kind{n}", low, low + size - 1) for n, (low, size) in enumerate(sizes)))


@given(vocabularies())
def test_every_id_is_one_event_and_every_event_one_id(vocabulary):
    events = [vocabulary.decode(token) for token in range(vocabulary.size)]
    assert len(set(events)) == vocabulary.size == sum(item.size for item in vocabulary.ranges)
    assert [vocabulary.encode(name, value) for name, value in events] == list(range(vocabulary.size))
    assert all(vocabulary.base(name) + value == token for token, (name, value) in enumerate(events))


@given(vocabularies())
def test_bos_and_pad_follow_the_last_event_and_are_none(vocabulary):
    assert (vocabulary.bos, vocabulary.pad) == (vocabulary.size, vocabulary.size + 1)
    for token in (-1, vocabulary.bos, vocabulary.pad):
        with pytest.raises(ValueError, match=f"id {token} is no event"):
            vocabulary.decode(token)


def test_a_value_outside_its_range_is_refused_with_the_range():
    vocabulary = Vocabulary((Range("pitch", 21, 108),))
    with pytest.raises(ValueError, match=r"pitch 109 is outside 21..108"):
        vocabulary.encode("pitch", 109)
    with pytest.raises(KeyError, match="no range 'pich'; known: pitch"):
        vocabulary.encode("pich", 60)
