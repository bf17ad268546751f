"""Features: a record is what its features say, or the message names the feature and both sides."""

import json

import numpy as np
import pytest

from schemas.feature import Feature, RecordError, check_record, features_from_json, features_to_json

FEATURES = {
    "key": Feature("bytes"),
    "tokens": Feature("uint16", ("token",), (4,), "id", "Event ids.", "raw", 0, 309),
    "level": Feature("float32", ("frame", "band"), (None, 2), "dB", minimum=-100.0),
}
RECORD = {
    "key": b"a#+0@1/00000",
    "tokens": np.array([0, 1, 2, 309], np.uint16),
    "level": np.zeros((3, 2), np.float32),
}


def test_a_record_that_is_as_declared_passes():
    check_record(RECORD, FEATURES)
    check_record({**RECORD, "level": np.zeros((0, 2), np.float32)}, FEATURES)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("key", "text", "feature 'key': expected bytes, got str"),
        ("tokens", np.zeros(4, np.int64), "feature 'tokens': expected uint16, got int64"),
        ("tokens", np.zeros(5, np.uint16), r"feature 'tokens': expected shape \(4,\) .*got \(5,\)"),
        ("tokens", np.full(4, 310, np.uint16), "feature 'tokens': value 310 is above its maximum 309"),
        ("level", np.zeros((3, 3), np.float32), r"feature 'level': expected shape \(None, 2\)"),
        ("level", np.zeros(6, np.float32), r"feature 'level': expected shape"),
        ("level", np.full((1, 2), -101, np.float32), "feature 'level': value -101.0 is below its minimum -100"),
        ("level", np.full((1, 2), np.nan, np.float32), "feature 'level': value nan"),
    ],
)
def test_a_value_that_is_not_as_declared_is_refused_by_name(name, value, message):
    with pytest.raises(RecordError, match=message):
        check_record({**RECORD, name: value}, FEATURES)


def test_missing_and_unexpected_features_are_named():
    record = {**RECORD, "extra": b""}
    del record["tokens"]
    with pytest.raises(RecordError, match=r"missing \['tokens'\], unexpected \['extra'\]"):
        check_record(record, FEATURES)


def test_features_survive_a_file():
    assert features_from_json(json.loads(json.dumps(features_to_json(FEATURES)))) == FEATURES


@pytest.mark.parametrize(
    "values",
    [{"a": {}}, {"a": None}, {"a": {"dtype": "uint16", "dims": [], "shape": [], "colour": 1}}]
    + [{"a": {"dtype": "uint16", "dims": ["x"], "shape": []}}, {"a": {"dtype": "complex64", "dims": [], "shape": []}}]
    + [{"a": {"dtype": "uint8", "dims": [], "shape": [], "storage": "tape"}}, {"a": []}],
)
def test_what_is_no_feature_is_refused(values):
    with pytest.raises(RecordError, match="features cannot be read"):
        features_from_json(values)
