"""Options of every command that reads a manifest: names of its columns, its label space."""

from __future__ import annotations

import argparse

from emojax.cli.arguments import name_list

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
