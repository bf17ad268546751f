"""The training step as a program for TPUs, lowered on a machine without one; that it runs there is not shown."""

import json

import pytest

from tests.trainer.on_backend import run_file

DEVICES = {"data=1,model=1": 1, "data=8,model=1": 8, "data=4,model=2": 8}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return json.loads(run_file("tpu_checks.py", tmp_path_factory.mktemp("tpu")).splitlines()[-1])


@pytest.mark.parametrize("positions", ["relative", "rotary"])
@pytest.mark.parametrize("mesh", DEVICES)
def test_a_training_step_is_lowered_for_tpus(found, positions, mesh):
    program = found[f"{positions} {mesh}"]
    assert program["platforms"] == ["tpu"]
    assert program["devices"] == DEVICES[mesh]
    assert program["sharded"] == (DEVICES[mesh] > 1)
    assert program["kernels"] == 0  # none that nobody has seen run


@pytest.mark.parametrize("mesh", DEVICES)
def test_the_bias_of_relative_attention_is_in_the_lowered_program_of_every_layer(found, mesh):
    assert len(found[f"relative {mesh}"]["reads"]) == 2
    assert all(found[f"relative {mesh}"]["reads"])
    assert found[f"rotary {mesh}"]["reads"] == []


def test_a_compiler_that_would_keep_what_is_to_be_computed_again_is_kept_from_it_in_every_block(found):
    assert found["remat"]["barriers"] == 2
    assert found["rotary data=1,model=1"]["barriers"] == 0
