"""Corpora of MIDI and audio become sharded TFRecords; start reading at `build.py`."""
