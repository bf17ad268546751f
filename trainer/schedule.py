"""The learning rate as a pure function of the step: the same number on every backend, and nothing to restore."""

from collections.abc import Callable
from functools import partial
from math import cos, pi

from trainer.config import TrainSettings

Schedule = Callable[[int], float]
"""Step (0 is the first) -> learning rate."""


def rsqrt(step: int, peak: float, warmup: int) -> float:
    """A linear rise to `peak` over `warmup` steps, then `peak` times the root of warmup / (step + 1).

    Vaswani et al. 2017, section 5.3, written with its peak: `width^-0.5 * min(n^-0.5, n * warmup^-1.5)` has the peak
    (width * warmup)^-0.5, which is 9.9e-4 for width 256 and 4,000 steps.
    """
    n, rise = step + 1, max(1, warmup)
    return peak * min(n / rise, (rise / n) ** 0.5)


def cosine(step: int, peak: float, warmup: int, steps: int) -> float:
    """A linear rise to `peak` over `warmup` steps, then half a cosine that would reach 0 at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + cos(pi * min(1.0, done)))


def constant(step: int, peak: float, warmup: int) -> float:
    """A linear rise to `peak` over `warmup` steps, then `peak`."""
    return peak * min(1.0, (step + 1) / max(1, warmup))


def schedule_of(settings: TrainSettings) -> Schedule:
    """The schedule that the settings ask for."""
    if settings.schedule == "rsqrt":
        return partial(rsqrt, peak=settings.learning_rate, warmup=settings.warmup)
    if settings.schedule == "cosine":
        return partial(cosine, peak=settings.learning_rate, warmup=settings.warmup, steps=settings.steps)
    return partial(constant, peak=settings.learning_rate, warmup=settings.warmup)
