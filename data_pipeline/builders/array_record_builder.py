"""Base of our TFDS builders: array_record files, written without TensorFlow."""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.core.utils import tqdm_utils

_BUCKETS = 128  # few enough for the usual limit of open files; TFDS would open 1000


class ArrayRecordBuilder(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]  # untyped library
    """A TFDS builder of array_record files that prints nothing."""

    def __init__(self, data_dir: Path):
        super().__init__(data_dir=str(data_dir), file_format="array_record")

    def prepare(self) -> None:
        """Writes the data set, unless its folder is already complete."""
        with _without_tensorflow():
            self.download_and_prepare()

    def _log_download_bytes(self) -> None:
        """Silent: TFDS would announce a download, but nothing is downloaded."""

    _log_download_done = _log_download_bytes


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Lets TFDS sort splits of more than a gigabyte without TensorFlow, and hides its bars.

    TFDS sorts such splits through files, which it opens by `tf.io.gfile`; plain files do as well.
    """
    # TFDS has no options for these; they are restored after the write.
    previous = shuffle.tf, shuffle.BUCKETS_NUMBER, tqdm_utils._active
    gfile = types.SimpleNamespace(GFile=open, exists=os.path.exists, remove=os.remove)
    shuffle.tf = types.SimpleNamespace(
        io=types.SimpleNamespace(gfile=gfile),
        errors=types.SimpleNamespace(ResourceExhaustedError=()),
    )
    shuffle.BUCKETS_NUMBER = _BUCKETS
    tqdm_utils.display_progress_bar(enable=False)
    try:
        yield
    finally:
        shuffle.tf, shuffle.BUCKETS_NUMBER, enabled = previous
        tqdm_utils.display_progress_bar(enable=enabled)
