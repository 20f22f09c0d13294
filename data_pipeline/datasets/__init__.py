"""Data sets: one module per set or family, which turns its annotation files into ClipRecords."""
