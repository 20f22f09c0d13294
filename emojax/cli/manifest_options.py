"""Options of every command that reads a manifest: names of its columns, its label space."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from emojax.cli.arguments import name_list

logger = logging.getLogger(__name__)
COLUMNS_HELP = "path=FILE_COLUMN,label=LABEL_COLUMN,...: what the manifest calls its columns"


def column_names(text: str) -> dict[str, str]:
    """Parses `path=FILE_COLUMN,label=LABEL_COLUMN` into {column: its name in the file}.

    Raises:
      argparse.ArgumentTypeError: a part is not of this form, or names a column twice.
    """
    names: dict[str, str] = {}
    for part in name_list(text):
        column, equals, own = (word.strip() for word in part.partition("="))
        if not (column and equals and own):
            raise argparse.ArgumentTypeError(
                f"'{part}' is not COLUMN=NAME_IN_THE_FILE, such as path=filename"
            )
        if column.lower() in names:
            raise argparse.ArgumentTypeError(f"'{column}' is named twice")
        names[column.lower()] = own
    return names


def add_columns_option(p: argparse.ArgumentParser, *, more: str = "") -> None:
    """Adds `--columns`.

    Args:
      p: the command's parser.
      more: what to add to its help.
    """
    p.add_argument(
        "--columns", type=column_names, metavar="A=B,...", default={}, help=COLUMNS_HELP + more
    )


def add_labels_option(p: argparse.ArgumentParser) -> None:
    """Adds `--labels`, the label space of a manifest."""
    p.add_argument(
        "--labels",
        metavar="A,B,...",
        help="the classes, in this order (default: the labels of the manifest, sorted)",
    )


def labels_to_choose_from(text: str | None, own: Sequence[str]) -> list[str] | None:
    """The labels in --labels, spelled as the model does where it has them, which is noted.

    Args:
      text: the option.
      own: the labels of the model.

    Returns:
      The labels without repetitions; None if the option is not given.

    Raises:
      ValueError: the option names fewer than two labels.
    """
    from data_pipeline.datasets.manifest_labels import find_label

    if not (names := name_list(text)):
        return None
    spelled = {name: find_label(name, own) or name for name in names}
    for name, label in spelled.items():
        if name != label:
            logger.info("note: --labels: '%s' is read as '%s', the model's label", name, label)
    labels = list(dict.fromkeys(spelled.values()))
    if len(labels) < 2:
        raise ValueError("--labels needs at least two different labels, separated by commas")
    return labels
