"""Configurations: base.py is the released recipe; the others change some of its fields."""
