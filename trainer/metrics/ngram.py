"""What counting alone reaches on music in voices: unigram, bigram and four-token n-gram, in nats a token.

A model that does not beat these has learnt less than a table. On the chorales as 16ths another count than this one gave
2.611, 0.936, 0.628 (valid) and 2.639, 0.985, 0.658 (test); another split or a lost rest moves them, another order of
voices hardly. They share a unit with nothing but nats a token of the same ids of the same pieces.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PSEUDO_COUNT = 0.1
NAMES = {"unigram": "unigram", "bigram": "bigram of a voice", "ngram": "four-token n-gram"}
"""The floors, and what a table calls them."""
"""Added to every count of the unigram and the bigram."""
ORDER = (4, 1, 2, 3)
"""Which tokens the n-gram asks, the most useful first: with four voices the voice's own last note is 4 places back."""


def floors(train: Sequence[Array], pieces: Sequence[Array], size: int, voices: int = 4) -> dict[str, float]:
    """Mean nats a token of `pieces` for three tables counted on `train`; NaN where `pieces` holds no token.

    `unigram` and `bigram` are per voice (the bigram sees the voice's own token of the step before), with 0.1 added to
    every count. `ngram` sees the voice and the parity of the step, then the tokens of `ORDER`, interpolated by Witten
    and Bell (1991, method C): p(x | c) = (n(c, x) + kinds(c) p(x | c without its last)) / (n(c) + kinds(c)).

    Args:
        train: whole pieces of ids [token], voices serialised step by step, without BOS and padding.
        pieces: what is scored, likewise; the first token of each counts.
        size: number of ids; all lie in 0..size - 1.
        voices: tokens a step; the voice of a token is its place in the piece modulo this.

    Raises:
        ValueError: an id lies outside 0..size - 1.
    """
    learnt = sum(map(len, train))
    tokens, back = _laid_out([*train, *pieces], size, voices)
    if len(tokens) == learnt:
        return dict.fromkeys(("unigram", "bigram", "ngram"), float("nan"))
    voice, parity = back[0] % voices, back[0] // voices % 2
    return {
        "unigram": _add_little(voice, tokens, learnt, size),
        "bigram": _add_little(voice * (size + 1) + back[voices], tokens, learnt, size),
        "ngram": _witten_bell(voice * 2 + parity, [back[places] for places in ORDER], tokens, learnt, size),
    }


def _laid_out(pieces: Sequence[Array], size: int, voices: int) -> tuple[Array, dict[int, Array]]:
    """All tokens end to end, int64 [token], and by places back the token there; at 0 the place itself in its piece.

    Before a piece lies `size`.
    """
    tokens = np.concatenate([np.zeros(0, np.int64), *(np.asarray(piece, np.int64) for piece in pieces)])
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < size:
        raise ValueError(
            f"ids {tokens.min()}..{tokens.max()} do not lie in 0..{size - 1}: BOS and padding do not belong"
        )
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    place = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    back = {0: place}
    for places in {voices, *ORDER}:
        back[places] = np.where(place >= places, np.roll(tokens, places), size)
    return tokens, back


def _numbered(keys: Array) -> Array:
    """The same key, the same number, from 0 without gaps."""
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def _counts(context: Array, tokens: Array, learnt: int, size: int) -> tuple[Array, Array, Array]:
    """How often the first `learnt` places hold each place's pair and its context, and with how many kinds of tokens."""
    pair = _numbered(context * size + tokens)
    pairs = np.bincount(pair[:learnt], minlength=int(pair.max()) + 1)
    contexts = np.bincount(context[:learnt], minlength=int(context.max()) + 1)
    first = np.unique(pair[:learnt], return_index=True)[1]
    kinds = np.bincount(context[first], minlength=len(contexts))
    return pairs[pair], contexts[context], kinds[context]


def _add_little(context: Array, tokens: Array, learnt: int, size: int) -> float:
    pair, seen, _ = _counts(_numbered(context), tokens, learnt, size)
    return _mean_nats((pair + PSEUDO_COUNT) / (seen + PSEUDO_COUNT * size), learnt)


def _witten_bell(context: Array, further: Sequence[Array], tokens: Array, learnt: int, size: int) -> float:
    """From the shortest context to the longest; one never seen leaves what the shorter one says."""
    probability = np.full(len(tokens), 1 / size)
    for before in (np.zeros_like(tokens), *further):
        context = _numbered(context * (size + 1) + before)
        pair, seen, kinds = _counts(context, tokens, learnt, size)
        probability = np.where(seen > 0, (pair + kinds * probability) / np.maximum(seen + kinds, 1), probability)
    return _mean_nats(probability, learnt)


def _mean_nats(probability: Array, learnt: int) -> float:
    return float(-np.log(probability[learnt:]).mean())
