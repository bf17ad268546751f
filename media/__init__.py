"""Bytes to music and back, and where bytes live. Used by the pipelines and by the trainer."""
