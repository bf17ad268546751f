#!/bin/sh
# The core and its tests in a throwaway environment: no extra is installed. Usage: tests/core.sh [PYTHON]
set -eu
python=${1:-python3.11}
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM

# The pins and hashes of requirements.lock for these packages and no others; an entry runs until the next line that is not indented.
awk '/^[^ #]/ {name = $1; sub(/(==|\[).*/, "", name); keep = index(wanted, " " name " ") > 0} /^ *#/ {next} keep' \
    wanted=" numpy protobuf google-crc32c symusic pysmartdl platformdirs pytest pytest-timeout iniconfig packaging pluggy pygments hypothesis sortedcontainers setuptools " \
    requirements.lock > "$folder/core.lock"

if uv --version > /dev/null 2>&1; then
    uv venv --quiet --python "$python" "$folder/venv"
    VIRTUAL_ENV="$folder/venv" uv pip install --quiet --require-hashes --no-deps -r "$folder/core.lock"
    VIRTUAL_ENV="$folder/venv" uv pip install --quiet --no-deps --no-build-isolation --editable .
else
    "$python" -m venv "$folder/venv"
    "$folder/venv/bin/python" -m pip install --quiet --require-hashes --no-deps -r "$folder/core.lock"
    "$folder/venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
fi
"$folder/venv/bin/python" --version
"$folder/venv/bin/stretto" --help > /dev/null
"$folder/venv/bin/python" -m pytest -q tests/schemas tests/media/test_midi.py tests/test_command_line.py \
    --ignore-glob="*note_seq*"  # these need note-seq, which is an extra
