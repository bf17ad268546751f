"""Package metadata and extras; Dataflow workers are handed this file too, so it needs nothing but setuptools."""

from setuptools import find_packages, setup

CORE = ["numpy>=2.0,<3", "protobuf>=6.31,<7", "google-crc32c>=1.7", "symusic>=0.6,<0.7"]

# note-seq's dependency pydub needs a module that Python 3.13 no longer has.
PYTEST = ["pytest>=8.3", "pytest-timeout>=2.3", "pytest-xdist>=3.6"]
NOTE_SEQ = ["note-seq>=0.0.5", 'audioop-lts; python_version >= "3.13"']
AUDIO = ["soundfile>=0.13", "soxr>=0.5", "pretty_midi>=0.2.10", "pyfluidsynth>=1.3.4"]
# Orbax needs jax whichever backend trains; jax 0.11 needs Python 3.12.
JAX = "jax>=0.10,<0.11"

EXTRAS = {
    "pipelines": ["apache-beam>=2.77,<3", *NOTE_SEQ],
    "gcp": ["apache-beam[gcp]>=2.77,<3", "google-cloud-storage>=3.1,<4"],
    "music21": ["music21>=10.5,<11"],
    "audio": AUDIO,
    "trainer": [
        "keras>=3.15,<4",
        JAX,
        "orbax-checkpoint>=0.12,<0.13",
        "safetensors>=0.5",
        "tensorboard>=2.20",
        "tensorboardX>=2.6.4",
        "pillow>=11",
        "mir_eval>=0.8",
        *AUDIO,
    ],
    "tensorflow": ["tensorflow>=2.21,<2.22"],
    "tensorflow-cpu": ["tensorflow-cpu>=2.21,<2.22"],
    "cuda": ["jax[cuda12]>=0.10,<0.11"],
    "tpu": ["jax[tpu]>=0.10,<0.11"],
    "torch": ["torch>=2.6", "tfrecord>=1.14.6"],
    "test": [*NOTE_SEQ, "tfrecord>=1.14.6", "hypothesis>=6.130", *PYTEST],
}

setup(
    name="stretto",
    version="0.1.0",
    description="From a corpus of music to TFRecord shards, trained models, and music again",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["schemas*", "media*", "beam_pipelines*", "trainer*"]),
    py_modules=["stretto", "commands", "command_line", "doctor"],
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["stretto=stretto:main"]},
)
