"""Descriptions of clips as MERR and MMEVerse have them, made again for anyone's recordings."""
