"""The endpoints of `emojax annotate`: options for one endpoint, or a file with one per agent."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.io import refuse_device
from data_pipeline.llm.endpoint import BACKOFF, OPTIONAL_FIELDS, RETRIES
from data_pipeline.suggestions import not_one_of
from emojax.cli.arguments import check_url, count, not_negative, positive, seconds, whole
from emojax.cli.endpoint_options import add_request_options

if TYPE_CHECKING:
    from data_pipeline.llm.endpoint import Endpoint

# Fields of a table in the file of --agents, with their types.
FIELDS: dict[str, tuple[type, ...]] = {
    "url": (str,),
    "model": (str,),
    "key_from": (str,),
    "temperature": (int, float),
    "max_tokens": (int,),
    "timeout": (int, float),
    "price_in": (int, float),
    "price_out": (int, float),
    "seed": (int,),
    "image_tokens": (int,),
    "second_tokens": (int,),
    "leave_out": (list,),
    "rename": (dict,),
}
_EXPECTED: dict[tuple[type, ...], str] = {
    (str,): "text",
    (list,): "a list",
    (dict,): "a table",
}
REQUIRED = ("url", "model")


def add_agent_options(p: argparse.ArgumentParser) -> None:
    """Adds the options of endpoints, requests and the budget."""
    e = p.add_argument_group(
        "endpoints",
        "one for all agents, or --agents FILE with a table [visual], [audio], [audio_2], "
        "[reasoning] for each",
    )
    e.add_argument(
        "--endpoint", metavar="URL", help="OpenAI-compatible, such as http://localhost:8000/v1"
    )
    e.add_argument("--model", metavar="NAME", help="as the endpoint names it")
    e.add_argument("--agents", metavar="FILE.toml", help=f"fields: {', '.join(FIELDS)}")
    e.add_argument(
        "--key-from",
        metavar="VARIABLE",
        help="environment variable of the key that is sent to the endpoint (default "
        "OPENAI_API_KEY, if it is set)",
    )
    add_request_options(e, max_reply=600)
    e.add_argument(
        "--timeout",
        type=seconds,
        default=120.0,
        metavar="S",
        help="of a request (default %(default)s)",
    )
    _add_prices(e)
    _add_requests(e)
    b = p.add_argument_group(
        "budget",
        "of all requests ever sent for this folder; a request that could exceed it is not sent",
    )
    b.add_argument("--most-money", type=positive, metavar="X", help="needs prices")
    b.add_argument("--most-tokens", type=count, metavar="N")


def _add_prices(e: argparse._ArgumentGroup) -> None:
    e.add_argument(
        "--price-in", type=not_negative, metavar="X", help="price of a million tokens of prompts"
    )
    e.add_argument(
        "--price-out", type=not_negative, metavar="X", help="price of a million tokens of replies"
    )
    e.add_argument(
        "--image-tokens",
        type=count,
        default=1500,
        metavar="N",
        help="upper bound per image (default %(default)s)",
    )
    e.add_argument(
        "--second-tokens",
        type=count,
        default=50,
        metavar="N",
        help="upper bound per second of audio (default %(default)s)",
    )


def _add_requests(e: argparse._ArgumentGroup) -> None:
    e.add_argument(
        "--concurrency",
        type=count,
        default=4,
        metavar="N",
        help="simultaneous requests per endpoint (default %(default)s)",
    )
    e.add_argument(
        "--retries",
        type=whole,
        default=RETRIES,
        metavar="N",
        help="of a failed request (default %(default)s)",
    )
    e.add_argument(
        "--backoff",
        type=not_negative,
        default=BACKOFF,
        metavar="S",
        help="before the first retry (default %(default)s)",
    )
    e.add_argument(
        "--ask-again",
        action="store_true",
        help="ask again for clips that were left out because of a reply (empty, a refusal, no "
        "form)",
    )


def endpoints_of(args: argparse.Namespace, agents: Sequence[str]) -> dict[str, Endpoint]:
    """The endpoint of each agent, from --agents, then from --endpoint.

    Args:
      args: the options.
      agents: the agents of the recipe.

    Returns:
      {agent: endpoint}; an agent that no option covers is not in it.

    Raises:
      ValueError: an option or a field of the file is not valid.
    """
    if args.key_from is not None and args.key_from not in os.environ:
        raise ValueError(f"--key-from: the environment has no variable {args.key_from}")
    key_from = args.key_from or "OPENAI_API_KEY"
    endpoints = {}
    if args.agents:
        path = Path(args.agents)
        for name, fields in _read_agents(path, agents).items():
            values = {"max_tokens": args.max_reply, "timeout": args.timeout, **fields}
            values["left_out"] = tuple(sorted(values.pop("leave_out", args.leave_out)))
            renamed = values.pop("rename", dict(args.rename))
            values["renamed"] = tuple(sorted(renamed.items()))
            values.setdefault("key_from", key_from)
            endpoints[name] = _endpoint(f"{path}, [{name}]", **values)
    if args.endpoint:
        if not args.model:
            raise ValueError("--endpoint needs --model NAME")
        shared = _endpoint(
            "--endpoint",
            url=args.endpoint,
            model=args.model,
            key_from=key_from,
            temperature=args.temperature,
            max_tokens=args.max_reply,
            left_out=args.leave_out,
            renamed=args.rename,
            timeout=args.timeout,
            price_in=args.price_in,
            price_out=args.price_out,
            image_tokens=args.image_tokens,
            second_tokens=args.second_tokens,
        )
        for name in agents:
            endpoints.setdefault(name, shared)
    first, second = endpoints.get("audio"), endpoints.get("audio_2")
    if first and second and (first.model, first.seed) == (second.model, second.seed):
        # With one model and seed, both agents would give the same reply.
        endpoints["audio_2"] = dataclasses.replace(second, seed=second.seed + 1000)
    return endpoints


def _endpoint(where: str, *, url: str, model: str, key_from: str, **fields: Any) -> Endpoint:
    from data_pipeline.llm.endpoint import Endpoint

    check_url(url, where)
    return Endpoint(url=url, model=str(model), key=os.environ.get(key_from, ""), **fields)


def _read_agents(path: Path, agents: Sequence[str]) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(refuse_device(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start})") from error
    for name, fields in tables.items():
        if name not in agents:
            raise ValueError(
                f"{path}: [{name}] is not an agent of this recipe, which asks {', '.join(agents)}"
            )
        _check_fields(f"{path}, [{name}]", fields)
    return tables


def _check_fields(where: str, fields: Any) -> None:
    if not isinstance(fields, dict) or set(REQUIRED) - set(fields) or set(fields) - set(FIELDS):
        optional = ", ".join(name for name in FIELDS if name not in REQUIRED)
        raise ValueError(f"{where}: needs {' and '.join(REQUIRED)}, may have {optional}")
    for key, value in fields.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, FIELDS[key])
            or (isinstance(value, int | float) and not 0 <= value < 1e9)
        ):
            expected = _EXPECTED.get(FIELDS[key], "a number of at least 0")
            raise ValueError(f"{where}: {key} is {value!r}, needs {expected}")
    named = {*fields.get("leave_out", ()), *fields.get("rename", {})}
    if unknown := sorted(map(str, named - set(OPTIONAL_FIELDS))):
        fault = not_one_of(unknown[0], OPTIONAL_FIELDS)
        raise ValueError(f"{where}: leave_out, rename: {fault}")
    if "key_from" in fields and fields["key_from"] not in os.environ:
        raise ValueError(f"{where}: the environment has no variable {fields['key_from']}")
