"""The corpora that can be prepared, by name; importing this imports none of them."""

CORPORA = {
    "jsb": "beam_pipelines.corpora.jsb:Jsb",
    "maestro": "beam_pipelines.corpora.maestro:Maestro",
    "midi": "beam_pipelines.corpora.midi:MidiFolder",
    "music21-chorales": "beam_pipelines.corpora.music21_chorales:Music21Chorales",
}
