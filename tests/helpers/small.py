"""A decoder small enough for tests."""

from genseg.alpha.decoder import DecoderConfig

SMALL = DecoderConfig(channels=(16, 16, 8, 8), embedding=5, code=6, hidden=3, tower=8)
