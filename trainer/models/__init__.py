"""Model families, one a file. Importing this imports none of them."""

FAMILIES: dict[str, str] = {
    "music-transformer": "trainer.models.music_transformer:MusicTransformer",
    "coconet": "trainer.models.coconet:Coconet",
    "performance-rnn": "trainer.models.performance_rnn:PerformanceRNN",
}
"""Name -> "module:Class"."""
