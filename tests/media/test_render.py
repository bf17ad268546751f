"""The sound of a piece: pitch and length are right, the pedal is heard, nothing clips, it is always the same."""

import importlib.util
import subprocess
import sys
import wave

import numpy as np
import pytest

from media.loudness import CEILING, TARGET_LUFS, loudness, normalised
from media.render import TAIL_SECONDS, find_engine, render, write_wav
from media.render import _fluidsynth as fluidsynth_module
from schemas.errors import InputError, MachineError, UsageError
from schemas.music import Controls, Notes, Piece, TempoMap

RATE = 22_050
TEMPO = TempoMap.constant(1000, 1_000_000)  # one tick is a millisecond


def installed(engine):
    if engine == "fluidsynth":
        return fluidsynth_module() is not None
    return importlib.util.find_spec("tinysoundfont") is not None


def piece(notes, pedal=(), program=0, drum=False, controls=None):
    """A piece of (start, end, pitch, velocity) in milliseconds with pedal (tick, value)."""
    start, end, pitch, velocity = zip(*notes, strict=True) if notes else ((),) * 4
    ticks, values = zip(*pedal, strict=True) if pedal else ((), ())
    controls = controls or Controls.of(ticks, [64] * len(ticks), values)
    return Piece("test", Notes.of(start, end, pitch, velocity, program=program, drum=drum), controls, TEMPO)


def level(sound, first, last):
    """Root of the mean square between two seconds."""
    return float(np.sqrt((sound[round(first * RATE) : round(last * RATE)].astype(np.float64) ** 2).mean()))


@pytest.fixture(params=["tinysoundfont", "fluidsynth"])
def play(request):
    """A function: piece -> sound at RATE; skips where the synthesiser is not installed."""
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    if importlib.util.find_spec("pretty_midi") is None:
        pytest.skip("the SoundFont comes with pretty_midi, which is not installed")
    return lambda music, **settings: render(music, RATE, engine=request.param, **settings)


def test_the_a_above_middle_c_sounds_at_440_hertz(play):
    sound = play(piece([(0, 2000, 69, 100)]))[: 2 * RATE].mean(axis=1)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    assert abs(np.fft.rfftfreq(len(sound), 1 / RATE)[spectrum.argmax()] - 440) < 2


def test_a_note_is_heard_when_it_is_struck_and_not_before(play):
    sound = play(piece([(1000, 1500, 60, 100)]))
    assert np.abs(sound[: RATE - 1]).max() < 1e-5
    assert level(sound, 1.0, 1.5) > 0.01


def test_a_note_held_by_the_pedal_is_heard_after_its_key_is_released(play):
    notes = [(0, 500, 60, 100), (3000, 3500, 72, 100)]
    dry = play(piece(notes))
    wet = play(piece(notes, pedal=[(100, 127), (2500, 0)]))
    assert level(wet, 1.5, 2.0) > 20 * level(dry, 1.5, 2.0)
    assert level(wet, 0.1, 0.4) > 0.01


def test_the_pedal_lets_go_when_it_goes_up(play):
    sound = play(piece([(0, 500, 60, 100), (5000, 5500, 72, 100)], pedal=[(100, 127), (2500, 0)]))
    assert level(sound, 4.0, 4.5) < 0.05 * level(sound, 2.0, 2.4)


def test_a_louder_note_is_heard_louder(play):
    sound = play(piece([(0, 500, 60, 30), (2000, 2500, 60, 120)]))
    assert level(sound, 2.0, 2.4) > 2 * level(sound, 0.0, 0.4)


def test_sound_lasts_as_long_as_the_piece_and_its_tail(play):
    assert play(piece([(0, 1500, 60, 100)])).shape == (round(RATE * (1.5 + TAIL_SECONDS)), 2)


def test_the_end_fades_to_nothing(play):
    sound = play(piece([(0, 5000, 60, 100)]), seconds_limit=2.0)
    assert len(sound) == 2 * RATE
    assert np.abs(sound[-1]).max() == 0
    assert level(sound, 1.8, 1.9) > 0.001


def test_music_has_the_stated_loudness_and_no_sample_reaches_full_scale(play):
    rng = np.random.default_rng(1)
    start = np.sort(rng.integers(0, 20_000, 200))
    music = Piece(
        "test", Notes.of(start, start + 800, rng.integers(36, 96, 200), rng.integers(30, 100, 200)), tempo=TEMPO
    )
    sound = play(music)
    assert np.abs(sound).max() < 1
    assert abs(loudness(sound, RATE) - TARGET_LUFS) < 0.1


def test_forty_keys_struck_at_once_do_not_clip(play):
    whisper = [(1000 * second, 1000 * second + 900, 60, 20) for second in range(20)]
    sound = play(piece([*whisper, *((20_000, 20_050, pitch, 127) for pitch in range(40, 80))]))
    assert 0.3 < np.abs(sound).max() <= CEILING * 1.0001


def test_two_renderings_are_equal_to_the_last_bit(play):
    music = piece([(0, 900, 60, 100), (300, 1200, 64, 80), (301, 1200, 67, 80)], pedal=[(200, 127)])
    assert play(music).tobytes() == play(music).tobytes()


def test_the_program_chooses_the_instrument(play):
    note = [(0, 1500, 60, 100)]
    piano, organ = (play(piece(note, program=program)) for program in (0, 19))
    assert level(organ, 1.2, 1.4) / level(organ, 0.1, 0.3) > 2 * level(piano, 1.2, 1.4) / level(piano, 0.1, 0.3)


def test_drums_are_no_pitches(play):
    note = [(0, 500, 38, 100)]
    drum, bass = (play(piece(note, drum=drum)).mean(axis=1) for drum in (True, False))
    crossings = [int((np.diff(np.sign(sound[: RATE // 5])) != 0).sum()) for sound in (drum, bass)]
    assert crossings[0] > 2 * crossings[1]


def test_twenty_instruments_at_once_are_all_heard(play):
    seconds = range(20)
    start = np.arange(20) * 1000
    notes = Notes.of(start, start + 700, 60, 100, program=np.arange(20), track=np.arange(20))
    sound = play(Piece("test", notes, tempo=TEMPO))
    assert min(level(sound, second, second + 0.7) for second in seconds) > 0.003


def test_a_track_whose_volume_is_nought_is_silent(play):
    sound = play(piece([(0, 1000, 60, 100)], controls=Controls.of([0], [7], [0])))
    assert np.abs(sound).max() < 1e-5


def test_a_note_of_no_length_does_not_sound_for_ever(play):
    sound = play(piece([(0, 0, 60, 100), (6000, 6100, 72, 100)]))
    assert level(sound, 4.0, 5.0) < 1e-3


def test_a_piece_without_notes_is_silence():
    sound = render(piece([]), RATE)
    assert sound.shape == (round(RATE * TAIL_SECONDS), 2)
    assert not sound.any()


def test_a_misspelt_engine_is_refused_with_the_names():
    with pytest.raises(UsageError, match="unknown engine 'flute'.*tinysoundfont"):
        render(piece([(0, 1, 60, 1)]), RATE, engine="flute", soundfont="any.sf2")


def test_a_file_that_is_no_soundfont_is_named(play, tmp_path):
    (tmp_path / "bad.sf2").write_bytes(b"RIFF nothing")
    with pytest.raises(InputError, match="bad.sf2: cannot be read as a SoundFont"):
        play(piece([(0, 1, 60, 1)]), soundfont=str(tmp_path / "bad.sf2"))


def test_where_nothing_can_render_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("media.render._fluidsynth", lambda: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="pip install --no-deps tinysoundfont"):
        find_engine()


def test_importing_the_renderer_loads_no_synthesiser():
    heavy = {"fluidsynth", "tinysoundfont", "pretty_midi", "scipy"}
    code = f"import sys, media.render; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_full_scale_sine_of_1_kilohertz_in_one_channel_has_the_standards_loudness(rate):
    sine = np.sin(2 * np.pi * 997 * np.arange(4 * rate) / rate)
    stereo = np.stack([sine, np.zeros_like(sine)], axis=1).astype(np.float32)
    assert abs(loudness(stereo, rate) - -3.01) < 0.05


def test_rests_do_not_count_towards_loudness():
    sine = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE).astype(np.float32)[:, None] * 0.1
    with_rest = np.concatenate([sine, np.zeros((40 * RATE, 1), np.float32)])
    assert abs(loudness(with_rest, RATE) - loudness(sine, RATE)) < 0.1


def test_a_peak_holds_the_level_down():
    click = np.full((RATE, 1), 1e-4, np.float32)
    click[100] = 0.5
    assert np.isclose(np.abs(normalised(click, RATE)).max(), CEILING)


def test_silence_stays_silence():
    assert not normalised(np.zeros((RATE, 2), np.float32), RATE).any()


def test_a_wav_file_holds_the_samples_in_16_bit(tmp_path):
    samples = np.array([[0, 0.5], [-1, 1], [0.25, -0.25]], np.float32)
    write_wav(tmp_path / "a.wav", samples, RATE)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, RATE, 3)
        read = np.frombuffer(file.readframes(3), "<i2").reshape(-1, 2) / 32767
    assert np.abs(read - samples).max() <= 0.5 / 32767 + 1e-9


@pytest.mark.parametrize("bad", [1.01, float("nan"), float("inf")])
def test_a_sample_that_would_clip_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="clipped"):
        write_wav(tmp_path / "a.wav", np.array([0, bad], np.float32), RATE)
