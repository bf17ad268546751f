"""Feature: what one array of a record is. Declared once; writer, reader, manifest and documentation follow from it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from schemas.errors import StrettoError

Record = dict[str, Any]
"""One example: feature name -> array, or bytes for a feature of dtype "bytes"."""

STORAGES = ("list", "raw", "flac")
DTYPES = ("bytes", "uint8", "uint16", "int16", "int32", "int64", "float32")


MAX_FEATURES = 256
MAX_AXES = 8
MAX_VALUES = 1 << 30
"""How many numbers one array may have: a record is no longer than that."""
_LONGEST_TEXT = 4096


class RecordError(StrettoError):
    """A record is not what its features say."""


@dataclass(frozen=True)
class Feature:
    """One array of a record.

    Attributes:
        dtype: NumPy name of the array in memory, or "bytes" for a byte string.
        dims: what each axis counts, for example ("token",).
        shape: length of each axis, None where it varies.
        unit: what a value is counted in: "id", "semitone", "Hz", "" for none.
        doc: one sentence.
        storage: "list" (int64 or float list), "raw" (little-endian bytes of the dtype) or "flac".
        minimum: smallest allowed value, or None.
        maximum: largest allowed value, or None.
    """

    dtype: str
    dims: tuple[str, ...] = ()
    shape: tuple[int | None, ...] = ()
    unit: str = ""
    doc: str = ""
    storage: str = "list"
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        known = self.dtype in DTYPES and self.storage in STORAGES
        if not known or len(self.dims) != len(self.shape) or (self.dtype == "bytes" and self.dims):
            raise ValueError(
                f"no feature: dtype {self.dtype!r}, storage {self.storage!r}, dims {self.dims}, shape {self.shape}"
            )


Features = Mapping[str, Feature]

KEY_FEATURES: dict[str, Feature] = {
    "key": Feature("bytes", doc="Name of the item, its copy and its window; unique in the dataset."),
    "group": Feature("bytes", doc="What may not be divided between splits, for example a composition."),
}
"""Features that every record of every representation carries."""


def check_record(record: Mapping[str, Any], features: Features) -> None:
    """Raises RecordError, naming the feature, unless the record holds exactly these features, each as declared."""
    if record.keys() != features.keys():
        missing, extra = sorted(features.keys() - record.keys()), sorted(record.keys() - features.keys())
        raise RecordError(f"record does not match its features: missing {missing}, unexpected {extra}")
    for name, feature in features.items():
        _check_value(name, record[name], feature)


def _check_value(name: str, value: Any, feature: Feature) -> None:
    if feature.dtype == "bytes":
        if not isinstance(value, bytes):
            raise RecordError(f"feature {name!r}: expected bytes, got {type(value).__name__}")
        return
    array = np.asarray(value)
    if array.dtype != np.dtype(feature.dtype):
        raise RecordError(f"feature {name!r}: expected {feature.dtype}, got {array.dtype}")
    if not _fits(array.shape, feature.shape):
        raise RecordError(f"feature {name!r}: expected shape {feature.shape} {feature.dims}, got {array.shape}")
    _check_range(name, array, feature)


def _check_range(name: str, array: np.ndarray[Any, Any], feature: Feature) -> None:
    if array.size == 0:
        return
    low, high = array.min(), array.max()
    if feature.minimum is not None and not low >= feature.minimum:
        raise RecordError(f"feature {name!r}: value {low} is below its minimum {feature.minimum}")
    if feature.maximum is not None and not high <= feature.maximum:
        raise RecordError(f"feature {name!r}: value {high} is above its maximum {feature.maximum}")


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(
        want is None or have == want for have, want in zip(shape, declared, strict=True)
    )


def features_to_json(features: Features) -> dict[str, Any]:
    """Features as plain JSON values, sorted by name."""
    return {name: asdict(features[name]) for name in sorted(features)}


def features_from_json(values: Mapping[str, Any]) -> dict[str, Feature]:
    """The inverse of `features_to_json`. Raises RecordError, naming feature and key, for what is no feature."""
    if not isinstance(values, Mapping) or len(values) > MAX_FEATURES:
        raise RecordError(f"features cannot be read: expected an object of at most {MAX_FEATURES} features")
    return {name: _feature(name, value) for name, value in values.items()}


def _feature(name: str, values: Any) -> Feature:
    known = [field.name for field in fields(Feature)]
    if not isinstance(values, Mapping) or not {"dtype", "dims", "shape"} <= values.keys() <= set(known):
        raise RecordError(f"features cannot be read: {name!r} is not described by {', '.join(known)}")
    for key, value in values.items():
        if not _is_allowed(key, value):
            raise RecordError(f"features cannot be read: {name!r}: {key} is {str(value)[:60]!r}")
    try:
        feature = Feature(**{**values, "dims": tuple(values["dims"]), "shape": tuple(values["shape"])})
    except ValueError as error:
        raise RecordError(f"features cannot be read: {name!r}: {error}") from error
    if math.prod(length for length in feature.shape if length is not None) > MAX_VALUES:
        raise RecordError(f"features cannot be read: {name!r}: shape {feature.shape} has more than {MAX_VALUES} values")
    return feature


def _is_allowed(key: str, value: Any) -> bool:
    """Whether a field of a stored feature has the type, and is in the range, that Feature says."""
    if key == "shape":
        return isinstance(value, list) and len(value) <= MAX_AXES and all(map(_is_length, value))
    if key == "dims":
        return isinstance(value, list) and all(isinstance(item, str) and len(item) <= _LONGEST_TEXT for item in value)
    if key in ("minimum", "maximum"):
        return value is None or (isinstance(value, (int, float)) and abs(value) < 1 << 64)
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT


def _is_length(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_VALUES)
