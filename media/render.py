"""Piece -> sound, through a SoundFont: what a listener hears in samples, in TensorBoard and in the demo.

Two synthesisers can play. FluidSynth (pyfluidsynth and its system library) sounds better, with reverb; tinysoundfont
needs nothing from the system. tinysoundfont does not know the sustain pedal, so both are given the notes as the pedal
holds them (`schemas.music.apply_sustain`) instead of the pedal itself, and what is heard is what the representations
encode. Of the controllers, volume, pan and expression are played.

The loudness of SoundFonts differs by 25 dB, so the result is brought to a stated level (media/loudness.py) and never
clips. The same piece, engine and SoundFont give the same samples every time.
"""

import contextlib
import ctypes
import importlib.util
import io
import os
import sys
import wave
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from media.loudness import normalised
from media.storage import write_atomic
from schemas.errors import InputError, MachineError, UsageError
from schemas.music import Piece, apply_sustain

TAIL_SECONDS = 2.0
"""What is heard after the last note is let go."""

ENGINES = ("auto", "fluidsynth", "tinysoundfont")

_FADE_SECONDS = 0.05
_CHANNELS = 16
_VOICES = 512
_PLAYED_CONTROLS = (7, 10, 11)  # volume, pan, expression
_SOUNDFONTS = tuple(f"/usr/share/sounds/sf2/{name}.sf2" for name in ("FluidR3_GM", "TimGM6mb", "default-GM"))

# Order of events that fall on the same sample: a note struck again is let go before.
_CONTROL, _OFF, _ON = range(3)


class _Player(Protocol):
    """What the two synthesisers have in common."""

    def program(self, channel: int, program: int, drum: bool) -> None: ...
    def control(self, channel: int, number: int, value: int) -> None: ...
    def on(self, channel: int, pitch: int, velocity: int) -> None: ...
    def off(self, channel: int, pitch: int) -> None: ...
    def play(self, out: NDArray[np.float32]) -> None: ...


def render(
    piece: Piece,
    rate: int = 44_100,
    soundfont: str | None = None,
    seconds_limit: float | None = None,
    engine: str = "auto",
) -> NDArray[np.float32]:
    """Returns the sound of a piece, float32 [sample, 2], loudness normalised, every sample below 1 in size.

    It lasts from tick 0 to TAIL_SECONDS after the last note as the pedal holds it. A piece without notes is silence of
    that length.

    Args:
        piece: what is played.
        rate: samples a second.
        soundfont: path of an .sf2 file; None takes the small one that comes with pretty_midi, or one of the system's.
        seconds_limit: render no more than this; the end is faded.
        engine: "fluidsynth", "tinysoundfont", or "auto" for the first of them that is installed.

    Raises:
        MachineError: nothing that can render is installed, or no SoundFont is found; the message says what to install.
        UsageError: no such engine.
        InputError: the SoundFont cannot be read.
    """
    held = apply_sustain(piece)
    seconds = held.seconds + TAIL_SECONDS
    length = round(rate * (seconds if seconds_limit is None else min(seconds, seconds_limit)))
    if len(held.notes.start) == 0:
        return np.zeros((length, 2), np.float32)
    sound = np.zeros((length, 2), np.float32)
    for events in _passes(held, rate):
        sound += _played(events, length, _player(engine, soundfont or find_soundfont(), rate))
    _fade(sound, rate)
    return normalised(sound, rate)


def write_wav(path: str | os.PathLike[str], samples: NDArray[np.float32], rate: int) -> None:
    """Writes float samples [sample] or [sample, channel] as a 16-bit WAV file.

    Raises:
        ValueError: a sample is not a number or above 1 in size: it would be clipped.
    """
    if not np.abs(samples).max(initial=0.0) <= 1:
        raise ValueError(
            f"{os.fspath(path)}: samples must lie within -1..1, or they would be clipped; normalise them first"
        )
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1 if samples.ndim == 1 else samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    write_atomic(path, buffer.getvalue())


def find_soundfont() -> str:
    """Returns the path of an installed SoundFont. Raises MachineError saying what to install."""
    spec = importlib.util.find_spec("pretty_midi")
    inside = [os.path.join(folder, "TimGM6mb.sf2") for folder in (spec and spec.submodule_search_locations) or ()]
    for path in (*inside, *_SOUNDFONTS):
        if os.path.isfile(path):
            return path
    raise MachineError(
        "no SoundFont found. Get one with: pip install pretty_midi, or apt-get install timgm6mb-soundfont"
    )


def find_engine() -> str:
    """Returns the name of the first synthesiser that is installed. Raises MachineError saying what to install."""
    if _fluidsynth() is not None:
        return "fluidsynth"
    if importlib.util.find_spec("tinysoundfont") is not None:
        return "tinysoundfont"
    raise MachineError(
        "nothing that can render MIDI to sound is installed. Add it with: pip install --no-deps tinysoundfont "
        "(it needs nothing from the system), or: pip install pyfluidsynth, with the system's libfluidsynth3"
    )


def _fluidsynth() -> Any:
    """The module, or None where it or the system library it loads is missing."""
    try:
        # In a continuous build it prints where it found its library; standard output belongs to the caller.
        with contextlib.redirect_stdout(sys.stderr):
            import fluidsynth
    except (ImportError, OSError):
        return None
    return fluidsynth


def _player(engine: str, soundfont: str, rate: int) -> _Player:
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}. Known: {', '.join(ENGINES)}.")
    chosen = find_engine() if engine == "auto" else engine
    return _FluidSynth(soundfont, rate) if chosen == "fluidsynth" else _TinySoundFont(soundfont, rate)


class _TinySoundFont:
    def __init__(self, soundfont: str, rate: int) -> None:
        try:
            import tinysoundfont
        except ImportError as error:
            raise MachineError("tinysoundfont is not installed: pip install --no-deps tinysoundfont") from error
        self._synth = tinysoundfont.Synth(samplerate=rate)
        try:
            self._font = self._synth.sfload(soundfont, max_voices=_VOICES)
        except RuntimeError as error:
            raise InputError(f"{soundfont}: cannot be read as a SoundFont: {error}") from error

    def program(self, channel: int, program: int, drum: bool) -> None:
        self._synth.program_select(channel, self._font, 0, program, drum)

    def control(self, channel: int, number: int, value: int) -> None:
        self._synth.control_change(channel, number, value)

    def on(self, channel: int, pitch: int, velocity: int) -> None:
        self._synth.noteon(channel, pitch, velocity)

    def off(self, channel: int, pitch: int) -> None:
        self._synth.noteoff(channel, pitch)

    def play(self, out: NDArray[np.float32]) -> None:
        self._synth.generate_simple(len(out), memoryview(out.reshape(-1)).cast("B"))


class _FluidSynth:
    def __init__(self, soundfont: str, rate: int) -> None:
        module = _fluidsynth()
        if module is None:
            raise MachineError("FluidSynth is not installed: pip install pyfluidsynth, and the system's libfluidsynth3")
        # The Python class hands out 16-bit samples only, in which soft music is noise and loud music clips.
        pointer, number = ctypes.c_void_p, ctypes.c_int
        kinds = (pointer, number, pointer, number, number, pointer, number, number)
        arguments = ((f"argument{index}", kind, 1) for index, kind in enumerate(kinds))
        self._write_float = module.cfunc("fluid_synth_write_float", number, *arguments)
        self._synth = module.Synth(samplerate=float(rate))
        self._font = self._synth.sfload(soundfont)
        if self._font < 0:
            raise InputError(f"{soundfont}: cannot be read as a SoundFont")

    def __del__(self) -> None:
        if hasattr(self, "_synth"):
            self._synth.delete()

    def program(self, channel: int, program: int, drum: bool) -> None:
        # Bank 128 holds drum kits; what the font lacks falls back to its first kit or to the piano.
        bank = 128 if drum else 0
        known = self._synth.sfpreset_name(self._font, bank, program) is not None
        self._synth.program_select(channel, self._font, bank, program if known else 0)

    def control(self, channel: int, number: int, value: int) -> None:
        self._synth.cc(channel, number, value)

    def on(self, channel: int, pitch: int, velocity: int) -> None:
        self._synth.noteon(channel, pitch, velocity)

    def off(self, channel: int, pitch: int) -> None:
        self._synth.noteoff(channel, pitch)

    def play(self, out: NDArray[np.float32]) -> None:
        self._write_float(self._synth.synth, len(out), out.ctypes.data, 0, 2, out.ctypes.data, 1, 2)


class _Events:
    """One pass of a synthesiser: instruments [channel], and rows (sample, kind, channel, number, value) in order."""

    def __init__(self, instruments: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        self.instruments = instruments
        self.rows = rows[np.lexsort((rows[:, 3], rows[:, 2], rows[:, 1], rows[:, 0]))]


def _passes(piece: Piece, rate: int) -> Iterator[_Events]:
    """One pass for every sixteen instruments, an instrument being a (track, program, drum)."""
    notes = piece.notes
    columns = (np.asarray(column, np.int64) for column in (notes.track, notes.program, notes.drum))
    instruments, players = np.unique(np.stack(list(columns), axis=1), axis=0, return_inverse=True)
    events = np.concatenate([_note_rows(piece, players.reshape(-1), rate), _control_rows(piece, instruments, rate)])
    for first in range(0, len(instruments), _CHANNELS):
        rows = events[(events[:, 2] >= first) & (events[:, 2] < first + _CHANNELS)]
        yield _Events(instruments[first : first + _CHANNELS], rows - np.array([0, 0, first, 0, 0]))


def _note_rows(piece: Piece, players: NDArray[np.int64], rate: int) -> NDArray[np.int64]:
    starts = np.rint(piece.start_seconds() * rate).astype(np.int64)
    # A note needs one sample at least: let go on the sample where it is struck, it would never end.
    ends = np.maximum(np.rint(piece.end_seconds() * rate).astype(np.int64), starts + 1)
    pitches, velocities = piece.notes.pitch.astype(np.int64), piece.notes.velocity.astype(np.int64)
    on = np.stack([starts, np.full_like(starts, _ON), players, pitches, velocities], axis=1)
    off = np.stack([ends, np.full_like(ends, _OFF), players, pitches, np.zeros_like(ends)], axis=1)
    return np.concatenate([on, off])


def _control_rows(piece: Piece, instruments: NDArray[np.int64], rate: int) -> NDArray[np.int64]:
    """Every controller that is played, once for each instrument of its track."""
    controls = piece.controls
    played = np.isin(controls.number, _PLAYED_CONTROLS)
    samples = np.rint(piece.tempo.seconds(controls.tick[played]) * rate).astype(np.int64)
    numbers, values, tracks = (
        np.asarray(column[played], np.int64) for column in (controls.number, controls.value, controls.track)
    )
    rows = []
    for player, (track, _, _) in enumerate(instruments):
        own = tracks == track
        fixed = np.broadcast_to([[_CONTROL, player]], (int(own.sum()), 2))
        rows.append(np.column_stack([samples[own], fixed, numbers[own], values[own]]))
    return np.concatenate(rows)


def _played(events: _Events, length: int, player: _Player) -> NDArray[np.float32]:
    out = np.zeros((length, 2), np.float32)
    for channel, (_, program, drum) in enumerate(events.instruments.tolist()):
        player.program(channel, program, bool(drum))
    now = 0
    for sample, kind, channel, number, value in events.rows.tolist():
        if sample >= length:
            break
        if sample > now:
            player.play(out[now:sample])
            now = sample
        _act(player, kind, channel, number, value)
    player.play(out[now:])
    return out


def _act(player: _Player, kind: int, channel: int, number: int, value: int) -> None:
    if kind == _ON:
        player.on(channel, number, value)
    elif kind == _OFF:
        player.off(channel, number)
    else:
        player.control(channel, number, value)


def _fade(sound: NDArray[np.float32], rate: int) -> None:
    """Fades the very end, so that it does not click where it is cut."""
    length = min(len(sound), round(_FADE_SECONDS * rate))
    if length:
        sound[-length:] *= np.linspace(1, 0, length, dtype=np.float32)[:, None]
