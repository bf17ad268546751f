"""How a sequence model knows places: sinusoids added to the input, rotations of queries and keys, learnt distances.

Sinusoids: Vaswani et al. 2017, arXiv:1706.03762. Rotations: Su et al. 2021, arXiv:2104.09864. Distances: Huang et al.
2018, arXiv:1809.04281, whose skewing needs no [token, token, width] tensor.
"""

from __future__ import annotations

from typing import Any

from keras import ops

BASE = 10_000.0
Tensor = Any


def _angles(places: Tensor, width: int) -> Tensor:
    """Angles in radians, float32 [token, width / 2], of integer places [token]; from 1 a token down to 1/10,000."""
    rates = ops.exp(ops.arange(width // 2, dtype="float32") * (-2.0 / width * ops.log(ops.convert_to_tensor(BASE))))
    return ops.cast(places, "float32")[:, None] * rates[None, :]


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Sines, then cosines, float32 [token, width], of integer places [token]."""
    angles = _angles(places, width)
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


def rotate(vectors: Tensor, places: Tensor) -> Tensor:
    """Vectors [batch, head, token, width] turned by their places [token]: products depend on distances alone."""
    angles = _angles(places, vectors.shape[-1])
    sine, cosine = ops.cast(ops.sin(angles), vectors.dtype), ops.cast(ops.cos(angles), vectors.dtype)
    first, second = ops.split(vectors, 2, axis=-1)
    return ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def skew(products: Tensor) -> Tensor:
    """[batch, head, query, column] by distance, last column distance 0 -> [batch, head, query, key] by key.

    Both are square. Places where the key comes after the query hold garbage and must be masked.
    """
    _, heads, length, _ = products.shape
    padded = ops.pad(products, ((0, 0), (0, 0), (0, 0), (1, 0)))
    return ops.reshape(padded, (ops.shape(products)[0], heads, length + 1, length))[:, :, 1:, :]


def relative_logits(query: Tensor, table: Tensor, clip: bool) -> Tensor:
    """Logits [batch, head, query, key] of queries [batch, head, token, width] with a table [head, distance, width].

    The last row of the table is distance 0. Beyond its first row the vector is zero, or with `clip` that row (Shaw et
    al. 2018).
    """
    length = query.shape[2]
    products = ops.einsum("bhqd,hrd->bhqr", query, table[:, -length:])
    return skew(_further(products, length - products.shape[-1], clip))


def relative_logits_at(query: Tensor, table: Tensor, clip: bool, position: Tensor, length: int) -> Tensor:
    """Logits [batch, head, 1, key] of one query at a place, for `length` keys; keys after the place hold garbage."""
    products = ops.einsum("bhqd,hrd->bhqr", query, table)
    batch, heads, _, distances = ops.shape(products)
    products = _further(products, length, clip)
    products = ops.pad(products, ((0, 0), (0, 0), (0, 0), (0, length)))
    start = length + distances - 1 - position
    return ops.slice(products, (0, 0, 0, start), (batch, heads, 1, length))


def _further(products: Tensor, columns: int, clip: bool) -> Tensor:
    """Products with more columns on the left, for distances beyond the table."""
    if columns <= 0:
        return products
    if clip:
        return ops.concatenate([ops.repeat(products[..., :1], columns, axis=-1), products], axis=-1)
    return ops.pad(products, ((0, 0), (0, 0), (0, 0), (columns, 0)))
