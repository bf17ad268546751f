"""Shards to weights, weights to music and scores. Start reading at train.py."""
