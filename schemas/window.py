"""Windows: where a long sequence is cut, so that every element falls into at least one window."""


def window_starts(length: int, window: int, hop: int) -> range:
    """First element of each window over `length` elements.

    With hop == window every element is in exactly one window. The last window may be short; none begins past the end,
    and a window that would add nothing new (all of it lies in the one before) is not made. `window` 0 means: one
    window, the whole.

    Raises:
        ValueError: hop is not in 1..window.
    """
    if length <= 0:
        return range(0)
    if window == 0:
        return range(1)
    if not 1 <= hop <= window:
        raise ValueError(f"hop {hop} must lie between 1 and the window {window}, or elements would be skipped")
    last = max(0, -(-(length - window) // hop))
    return range(0, (last + 1) * hop, hop)
