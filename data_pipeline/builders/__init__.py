"""TFDS builders: clips in array_record shards, as media or decoded."""
