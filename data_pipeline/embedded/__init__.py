"""The embedded corpus: generated talking-face clips with known ground truth."""
