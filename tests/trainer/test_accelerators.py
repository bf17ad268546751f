"""What the driver says of GPUs, and training that would leave one idle or ask it for what it lacks."""

import os
import sys
import time

import pytest

import doctor
from schemas.errors import MachineError
from trainer import accelerators
from trainer.accelerators import Gpu, Gpus, check_precision, check_used, gpus, tpu_sign

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


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that writes files of a machine which has these only: {path: text}."""
    monkeypatch.setattr(accelerators, "_ROOT", tmp_path / "machine")
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES", "TPU_SKIP_MDS_QUERY"):
        monkeypatch.delenv(name, raising=False)

    def put(files):
        for name, text in files.items():
            path = tmp_path / "machine" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return put


def card(number, vendor, device):
    folder = f"sys/bus/pci/devices/0000:00:0{number}.0"
    return {f"{folder}/vendor": f"{vendor}\n", f"{folder}/device": f"{device}\n"}


def test_every_gpu_that_the_driver_shows_is_found(driver):
    driver("echo 'NVIDIA H200, 143771 MiB'; echo 'Tesla V100, 16384 MiB'")
    assert gpus() == Gpus((H200, V100))
    assert doctor.accelerator().found == "NVIDIA H200, 143771 MiB; Tesla V100, 16384 MiB"


@pytest.mark.parametrize("code", [0, 6])
def test_a_driver_that_says_there_is_no_gpu_is_believed_and_the_doctor_says_so(driver, machine, code):
    driver(f"echo 'No devices were found'; exit {code}")
    assert gpus() == Gpus()
    assert check_used(gpus(), "jax", allow_cpu=False) == ""
    assert doctor.accelerator().found == "nvidia-smi shows no GPU"


def test_a_driver_that_is_broken_is_refused_with_its_own_words_and_not_taken_for_none(driver):
    driver("echo 'Failed to initialize NVML: Driver/library version mismatch' >&2; exit 18")
    with pytest.raises(
        MachineError, match="ended with 18: .*version mismatch. Look .*nvidia-smi.*--allow-cpu"
    ) as caught:
        check_used(gpus(), "jax", allow_cpu=False)
    assert caught.value.exit_code == 4
    assert "version mismatch" in check_used(gpus(), "jax", allow_cpu=True)
    assert doctor.accelerator().status == "note" and "version mismatch" in doctor.accelerator().found


def test_a_driver_that_does_not_answer_is_not_waited_for_and_trains_on_the_cpu_where_that_was_asked(
    driver, monkeypatch
):
    monkeypatch.setattr(accelerators, "_SECONDS", 0.2)
    driver("exec sleep 60")
    with pytest.raises(MachineError, match="did not answer in 0.2 s"):
        check_used(gpus(), "tensorflow", allow_cpu=False)
    assert "--allow-cpu" in check_used(gpus(), "tensorflow", allow_cpu=True)
    assert doctor.accelerator().status == "note"


def test_a_process_that_cannot_be_waited_for_is_left_after_its_kill(driver, monkeypatch):
    monkeypatch.setattr(accelerators, "_SECONDS", 0.2)
    driver("sleep 5 & wait")  # dies, but its child holds the pipes open
    began = time.monotonic()
    assert "did not answer" in gpus().trouble
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("backend", "advice"), [("jax", "pip install '.\\[cuda\\]'"), ("tensorflow", "tensorflow\\[and-cuda\\]")]
)
def test_a_gpu_that_would_lie_idle_is_refused_with_what_to_install_and_how_to_see_why(backend, advice):
    said = (
        f"1 GPUs \\(NVIDIA H200\\), but {backend} sees only the CPU.*{advice}.*import {backend}.*too old.*--allow-cpu"
    )
    with pytest.raises(MachineError, match=said):
        check_used(Gpus((H200,)), backend, allow_cpu=False)


def test_a_gpu_that_lies_idle_because_it_was_asked_for_is_told():
    assert "--allow-cpu" in check_used(Gpus((H200,)), "jax", allow_cpu=True)


def test_nothing_is_said_where_there_is_no_accelerator(machine):
    assert check_used(Gpus(), "jax", allow_cpu=False) == ""


@pytest.mark.parametrize(
    ("files", "sign"),
    [
        (card(4, "0x1ae0", "0x0063") | card(5, "0x1ae0", "0x0063"), "2 TPU chips"),
        ({"dev/accel0": "", "dev/accel1": ""}, "/dev/accel0"),
    ],
)
def test_a_tpu_that_would_lie_idle_is_refused_with_what_to_type(machine, files, sign):
    machine(files)
    with pytest.raises(MachineError, match=f"{sign}.*--backend jax.*pip install '.\\[tpu\\]'.*--allow-cpu"):
        check_used(Gpus(), "tensorflow", allow_cpu=False)
    with pytest.raises(MachineError, match=f"{sign}.*Type pip install '.\\[tpu\\]'"):
        check_used(Gpus(), "jax", allow_cpu=False)
    assert sign in check_used(Gpus(), "tensorflow", allow_cpu=True)


def test_a_pod_whose_workers_kubernetes_names_has_a_tpu(machine, monkeypatch):
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "one,two")
    assert "TPU_WORKER_HOSTNAMES" in tpu_sign()


def test_what_only_looks_like_a_tpu_is_none(machine, monkeypatch):
    machine(card(3, "0x1ae0", "0x0042"))  # the network card of Compute Engine
    machine(card(4, "0x8086", "0x0063"))
    machine({"dev/vfio/vfio": "", "dev/vfio/12": "", "dev/accel/accel0": ""})
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")  # set by JAX where there is no TPU
    assert tpu_sign() == ""


def test_the_tpus_are_those_that_jax_knows():
    utils = pytest.importorskip("jax._src.hardware_utils")
    assert (accelerators._GOOGLE, accelerators._TPUS) == (utils._GOOGLE_PCI_VENDOR_ID, set(utils._TPU_PCI_DEVICE_IDS))


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


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("raise SystemExit('RuntimeError: ABORTED: The TPU is already in use by process with pid 7.')", "note"),
        ("raise SystemExit('RuntimeError: no device')", "fault"),
    ],
)
def test_a_device_that_another_process_has_is_worth_a_note_and_a_broken_one_is_a_fault(monkeypatch, program, status):
    monkeypatch.setattr(doctor, "JAX_DEVICES", program)
    monkeypatch.setitem(doctor.TRIALS, "jax", program)
    assert doctor.JaxDevices().check().status == doctor.trial("jax").status == status


def test_the_doctor_leaves_a_process_whose_pipes_stay_open(monkeypatch):
    program = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', 'import time; time.sleep(5)'])"
    monkeypatch.setattr(doctor, "JAX_DEVICES", program)
    monkeypatch.setitem(doctor.TRIALS, "jax", program)
    for name in ("JAX_SECONDS", "TRIAL_SECONDS"):
        monkeypatch.setattr(doctor, name, 0.5)
    began = time.monotonic()
    assert "no answer" in doctor.JaxDevices().check().found
    assert "no answer" in doctor.trial("jax").found
    assert time.monotonic() - began < 4
