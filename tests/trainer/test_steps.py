"""One update of the weights on TensorFlow and on JAX: the same numbers, and the right ones."""

import numpy as np
import pytest

from tests.trainer.on_backend import check_same_step, run_file
from tests.trainer.step_checks import STEPS
from tests.trainer.synthetic import scales

BACKENDS = ("tensorflow", "jax")


def compute(backend, data, out, *states):
    run_file("step_checks.py", backend, data, out, *states, optimised=True)
    return dict(np.load(out))


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """What each backend found; JAX at the states that TensorFlow went through."""
    folder = tmp_path_factory.mktemp("steps")
    scales(str(folder / "data"))
    tensorflow = compute("tensorflow", folder / "data", folder / "tensorflow.npz")
    return {
        "tensorflow": tensorflow,
        "jax": compute("jax", folder / "data", folder / "jax.npz", folder / "tensorflow.npz"),
    }


def test_first_weights_and_random_seeds_are_equal_bit_for_bit_on_both_backends(computed):
    first = [{name: value for name, value in found.items() if name.startswith("first ")} for found in computed.values()]
    assert first[0].keys() == first[1].keys() and len(first[0]) > 30
    assert all(first[0][name].tobytes() == first[1][name].tobytes() for name in first[0])
    kernels = [value for name, value in first[0].items() if name.endswith("kernel")]
    assert len({value.tobytes() for value in kernels}) == len(kernels)


@pytest.mark.parametrize("step", range(STEPS))
def test_from_the_same_state_both_backends_find_the_same_loss_and_gradient(computed, step):
    one, other = (computed[backend] for backend in BACKENDS)
    check_same_step(one, other, step)


def test_left_alone_both_backends_stay_together_for_five_steps(computed):
    one, other = (computed[backend]["free"] for backend in BACKENDS)
    np.testing.assert_allclose(other[:5], one[:5], rtol=1e-5)
    assert one[-1] < one[0] and other[-1] < other[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_gives_the_loss_and_gradient_of_the_whole(computed, backend, parts):
    found = computed[backend]
    np.testing.assert_allclose(found[f"parts {parts} loss"], found["parts 1 loss"], rtol=1e-6)
    error = np.linalg.norm(found[f"parts {parts} gradient"] - found["parts 1 gradient"])
    assert error <= 1e-5 * np.linalg.norm(found["parts 1 gradient"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_token_that_occurs_often_is_moved_as_adam_says(computed, backend):
    found = computed[backend]
    gradient = found["adam gradient"].astype(np.float64)
    # The first step of Adam: both moments are corrected for their beginning, so it is the sign, softened by epsilon.
    want = found["adam before"] - 1e-3 * gradient / (np.abs(gradient) + 1e-8 / np.sqrt(1 - 0.98))
    moved = np.abs(gradient) > 1e-4
    assert moved.sum() > 100
    np.testing.assert_allclose(found["adam after"][moved], want[moved], atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_function_knows_new_weights_and_no_dropout(computed, backend):
    first, again, after = computed[backend]["scored"]
    assert first == again and after != first


@pytest.mark.parametrize("backend", BACKENDS)
def test_blocks_that_are_computed_again_draw_the_same_dropout_and_leave_the_same_weights(computed, backend):
    found = computed[backend]
    np.testing.assert_allclose(found["remat True losses"], found["remat False losses"], rtol=1e-6)
    np.testing.assert_allclose(found["remat True state"], found["remat False state"], rtol=1e-4, atol=1e-5)
    assert len(set(found["remat True losses"].tolist())) == 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_step_draws_a_dropout_of_its_own(computed, backend):
    assert len(set(computed[backend]["with dropout"].tolist())) == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_gradients_can_be_had(computed, backend):
    x = np.arange(4.0)
    np.testing.assert_allclose(computed[backend]["cubes"], 3 * x**2, rtol=1e-6)
    np.testing.assert_allclose(computed[backend]["penalty"], 36 * x**3, rtol=1e-6)
