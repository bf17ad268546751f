"""Layers that several families share, written in keras.ops alone, and the drawing of tokens."""
