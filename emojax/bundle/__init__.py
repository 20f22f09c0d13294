"""A model folder on disk: configuration, tokenizer, weights, calibration."""
