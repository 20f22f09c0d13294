"""Configurations: base.py holds every field; the others change some of them by name."""
