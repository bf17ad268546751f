"""Hashes are the same for ever: splits, orders and random draws of every dataset hang on these values."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.hashing import canonical_json, file_sha256, fingerprint, generator, stable_hash, uniform

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_the_hash_is_blake2b_of_the_parts_in_little_endian():
    # `printf a | b2sum -l 64` and `printf 'seed\x1f1\x1fé' | b2sum -l 64`
    assert stable_hash("a") == int.from_bytes(bytes.fromhex("40f89e395b66422f"), "little")
    assert stable_hash("seed", 1, "é") == int.from_bytes(bytes.fromhex("e9e260360cc5f979"), "little")


def test_the_hash_is_the_same_in_a_process_with_another_hash_seed():
    code = "from schemas.hashing import stable_hash; print(stable_hash('maestro/2018/a.midi', 'split'))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) == stable_hash("maestro/2018/a.midi", "split")


def test_draws_are_the_same_for_ever():
    assert generator(0, "a", "split").random(3).tolist() == [0.95650072277307, 0.7554060015522831, 0.4093960831511133]
    assert uniform(0, "group", "split") == 0.8312472636889038


@given(st.integers(), st.text(alphabet=st.characters(codec="utf-8")), st.sampled_from(["split", "augment"]))
def test_a_uniform_number_is_at_least_0_and_below_1(seed, key, purpose):
    assert 0 <= uniform(seed, key, purpose) < 1


def test_neighbouring_seeds_keys_and_purposes_draw_differently():
    settings = [(seed, key, purpose) for seed in range(10) for key in range(10) for purpose in ("a", "b")]
    assert len({generator(*setting).integers(1 << 62) for setting in settings}) == len(settings)


def test_uniform_numbers_fill_the_interval_evenly():
    values = [uniform(0, f"group {number}", "split") for number in range(10_000)]
    tenths = [sum(low / 10 <= value < (low + 1) / 10 for value in values) for low in range(10)]
    assert min(tenths) > 900 and max(tenths) < 1100


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_the_order_of_keys_does_not_change_a_fingerprint(values):
    assert fingerprint(dict(reversed(values.items()))) == fingerprint(values)


def test_canonical_json_is_one_text():
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'
    assert (
        fingerprint({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )  # printf '{}' | sha256sum


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": [float("-inf")]}])
def test_what_json_cannot_say_has_no_fingerprint(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint(value)


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 1_000_000)
    (tmp_path / "empty").write_bytes(b"")
    assert file_sha256(str(tmp_path / "empty")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert file_sha256(str(tmp_path / "file")) == "f4096a131e7e6ebfa7a512b5c299e13b065df34d15624ee1202ab394cc4d7e90"
