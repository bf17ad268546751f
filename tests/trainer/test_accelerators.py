"""What the driver says of GPUs, and training that would leave one idle or ask it for what it lacks."""

import os

import pytest

import doctor
from schemas.errors import MachineError
from trainer.accelerators import Gpu, check_precision, check_used, gpus

H200, V100 = Gpu("NVIDIA H200", "143771 MiB"), Gpu("Tesla V100", "16384 MiB")


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A function that puts an nvidia-smi on the PATH which runs a shell program."""

    def put(program):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return put


def test_every_gpu_that_the_driver_shows_is_found(driver):
    driver("echo 'NVIDIA H200, 143771 MiB'; echo 'Tesla V100, 16384 MiB'")
    assert gpus() == [H200, V100]
    assert doctor.accelerator().found == "NVIDIA H200, 143771 MiB; Tesla V100, 16384 MiB"


def test_a_driver_without_gpus_is_no_gpu_and_the_doctor_says_so(driver):
    driver("exit 9")
    assert gpus() == []
    assert doctor.accelerator().found == "nvidia-smi shows no GPU"


def test_a_driver_that_does_not_answer_is_told_and_not_waited_for(driver, monkeypatch):
    monkeypatch.setattr("trainer.accelerators._SECONDS", 0.2)
    driver("exec sleep 60")
    with pytest.raises(MachineError, match="did not answer"):
        gpus()
    assert doctor.accelerator().status == "note"


@pytest.mark.parametrize(
    ("backend", "package"), [("jax", "jax\\[cuda12\\]"), ("tensorflow", "tensorflow\\[and-cuda\\]")]
)
def test_a_gpu_that_would_lie_idle_is_refused_with_what_to_install(backend, package):
    with pytest.raises(MachineError, match=f"1 GPUs \\(NVIDIA H200\\), but {backend} sees only the CPU.*{package}"):
        check_used([H200], backend, allow_cpu=False)


def test_a_gpu_that_lies_idle_because_it_was_asked_for_is_told():
    assert "--allow-cpu" in check_used([H200], "jax", allow_cpu=True)


def test_nothing_is_said_where_there_is_no_gpu():
    assert check_used([], "jax", allow_cpu=False) == ""


def test_a_precision_that_the_gpu_lacks_is_refused_with_one_that_it_has():
    with pytest.raises(MachineError, match="compute capability 7, .*--precision float32") as caught:
        check_precision("mixed_bfloat16", 7.0)
    assert caught.value.exit_code == 4
    for precision, capability in (("mixed_bfloat16", 9.0), ("float32", 7.0), ("mixed_bfloat16", None)):
        check_precision(precision, capability)


def test_the_doctor_asks_jax_in_another_process_and_does_not_wait_for_it(monkeypatch):
    monkeypatch.setattr(doctor, "JAX_SECONDS", 0.0)
    late = doctor.JaxDevices().check()
    assert late.status == "note" and "--deep" in late.remedy
    monkeypatch.setattr(doctor, "JAX_SECONDS", 100.0)
    assert "cpu" in doctor.JaxDevices().check().found
