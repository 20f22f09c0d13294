"""Annotates clips as MERR and MMEVerse were made, with language models of the user's choice."""
