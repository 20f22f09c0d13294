"""TFDS builders: decoded clips in array_record shards."""
