"""One file a data set: its annotation to ClipRecords."""
