"""Model families, one a file. Importing this imports none of them."""

FAMILIES: dict[str, str] = {
    "music-transformer": "trainer.models.music_transformer:MusicTransformer",
}
"""Name -> "module:Class"."""
