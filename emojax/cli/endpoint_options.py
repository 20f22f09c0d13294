"""Options of the commands that ask one OpenAI-compatible endpoint."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from emojax.cli.arguments import check_url, count, not_negative, seconds

if TYPE_CHECKING:
    from data_pipeline.llm.endpoint import Endpoint


def add_endpoint_options(p: argparse.ArgumentParser) -> None:
    """Adds the options, except --endpoint itself."""
    p.add_argument(
        "--key-from",
        metavar="VARIABLE",
        default="EMOJAX_API_KEY",
        help="environment variable of the key (default %(default)s)",
    )
    p.add_argument(
        "--concurrency", type=count, default=4, help="requests at once (default %(default)s)"
    )
    p.add_argument(
        "--timeout", type=seconds, default=60.0, help="seconds per request (default %(default)s)"
    )
    p.add_argument(
        "--price",
        nargs=2,
        type=not_negative,
        metavar=("IN", "OUT"),
        help="price of a million tokens of prompts and of replies",
    )


def endpoint_of(args: argparse.Namespace, model: str) -> Endpoint:
    """The endpoint of a command's options.

    Raises:
      ValueError: the address is not valid.
    """
    from data_pipeline.llm.endpoint import Endpoint

    check_url(args.endpoint, "--endpoint")
    price = args.price or (None, None)
    return Endpoint(
        url=args.endpoint,
        model=model,
        key=os.environ.get(args.key_from, ""),
        seed=args.seed,
        timeout=args.timeout,
        price_in=price[0],
        price_out=price[1],
    )
