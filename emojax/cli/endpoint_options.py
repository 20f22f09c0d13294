"""Options of the commands that ask one OpenAI-compatible endpoint."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from data_pipeline.llm.endpoint import OPTIONAL_FIELDS
from data_pipeline.suggestions import not_one_of
from emojax.cli.arguments import check_url, count, not_negative, seconds

if TYPE_CHECKING:
    from data_pipeline.llm.endpoint import Endpoint

Options = argparse.ArgumentParser | argparse._ArgumentGroup


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
    add_request_options(p, max_reply=512)


def add_request_options(p: Options, *, max_reply: int) -> None:
    """Adds the options of the fields of a request.

    Args:
      p: the command, or a group of its options.
      max_reply: default limit of a reply.
    """
    p.add_argument(
        "--temperature",
        type=not_negative,
        default=0.0,
        help="of the model that is asked (default %(default)s)",
    )
    p.add_argument(
        "--max-reply",
        type=count,
        default=max_reply,
        metavar="N",
        help="tokens of a reply, thoughts included (default %(default)s)",
    )
    p.add_argument(
        "--leave-out",
        type=_left_out,
        default=(),
        metavar="FIELD,...",
        help=f"fields to leave out because the server refuses them: {', '.join(OPTIONAL_FIELDS)}",
    )
    p.add_argument(
        "--rename",
        type=_renamed,
        default=(),
        metavar="FIELD=NAME,...",
        help="fields that the server knows by another name: max_tokens=max_completion_tokens",
    )


def _left_out(text: str) -> tuple[str, ...]:
    names = tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
    if unknown := [name for name in names if name not in OPTIONAL_FIELDS]:
        raise argparse.ArgumentTypeError(_not_optional(unknown[0]))
    return names


def _renamed(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for item in filter(None, text.split(",")):
        field, _, name = (part.strip() for part in item.partition("="))
        if field not in OPTIONAL_FIELDS:
            raise argparse.ArgumentTypeError(_not_optional(field))
        if not name.isidentifier():
            raise argparse.ArgumentTypeError(f"'{item}': give FIELD=NAME, {field}=NAME")
        pairs.append((field, name))
    return tuple(sorted(pairs))


def _not_optional(field: str) -> str:
    return f"{not_one_of(field, OPTIONAL_FIELDS)} (fields that may be left out or renamed)"


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
        temperature=args.temperature,
        max_tokens=args.max_reply,
        left_out=args.leave_out,
        renamed=args.rename,
        timeout=args.timeout,
        price_in=price[0],
        price_out=price[1],
    )
