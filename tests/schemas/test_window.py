"""Windows: every element is seen, none twice unless asked, none past the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.window import window_starts


@given(st.integers(0, 500), st.integers(1, 60))
def test_with_the_hop_of_a_window_every_element_is_in_exactly_one(length, window):
    seen = [
        element
        for start in window_starts(length, window, window)
        for element in range(start, min(start + window, length))
    ]
    assert seen == list(range(length))


@given(st.integers(0, 500), st.integers(1, 60), st.data())
def test_with_any_hop_every_element_is_seen_and_no_window_is_superfluous(length, window, data):
    hop = data.draw(st.integers(1, window))
    starts = list(window_starts(length, window, hop))
    assert {element for start in starts for element in range(start, min(start + window, length))} == set(range(length))
    assert all(later - earlier == hop for earlier, later in zip(starts, starts[1:], strict=False))
    assert all(start + window < length for start in starts[:-1])


@given(st.integers(1, 10**9))
def test_a_window_of_0_is_the_whole(length):
    assert list(window_starts(length, 0, 0)) == [0]


def test_nothing_has_no_windows():
    assert list(window_starts(0, 8, 8)) == list(window_starts(0, 0, 0)) == []


@pytest.mark.parametrize(("window", "hop"), [(8, 0), (8, 9), (8, -1)])
def test_a_hop_that_would_skip_elements_is_refused(window, hop):
    with pytest.raises(ValueError, match=f"hop {hop} must lie between 1 and the window 8"):
        window_starts(100, window, hop)
