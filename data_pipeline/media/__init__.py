"""Media files: decoding, cutting, views for the encoders, sound statistics, storage."""
