"""Formats of weight files that have the sizes of a model inside: GGUF, CTranslate2; config.json."""
