"""Windows: every element is seen, none twice unless asked, none past the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.window import check_window, window_starts


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


@pytest.mark.parametrize(("window", "hop"), [(0, 0), (8, 0), (8, 8), (8, 4), (16, 0)])
def test_a_window_and_a_hop_that_records_can_have_are_taken(window, hop):
    check_window(window, hop, largest=16, multiple=4)


@pytest.mark.parametrize(
    ("window", "hop", "message"),
    [
        (-4, 0, "^window -4 must lie on a multiple of 4 .* from 0 to 16$"),
        (20, 0, "^window 20 must lie"),
        (6, 0, "^window 6 must lie"),
        (8.0, 0, "^window 8.0 must lie"),
        (True, 0, "^window True must lie"),
        (8, -4, "^hop -4 must lie on a multiple of 4 .* from 0 to 16$"),
        (8, 2, "^hop 2 must lie"),
        (8, 12, "^hop 12 must lie between 0 and the window 8$"),
        (0, 4, "^hop 4 must lie between 0 and the window 0$"),
    ],
)
def test_of_a_window_and_a_hop_the_one_that_is_wrong_is_named(window, hop, message):
    with pytest.raises(ValueError, match=message):
        check_window(window, hop, largest=16, multiple=4)
