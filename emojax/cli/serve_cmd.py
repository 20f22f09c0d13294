"""`emojax serve`: loads the model once and answers over HTTP until it is stopped."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from rich.console import Console

from emojax.cli.arguments import (
    Commands,
    add_precision,
    add_released_mode,
    check_port_is_free,
    count,
    positive,
    seconds,
)
from emojax.cli.console import setup
from emojax.cli.output import model_folder
from emojax.serve.limits import Limits

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def add_parser(commands: Commands) -> None:
    """Adds `serve`."""
    p = commands.add_parser(
        "serve", help="clips and recordings over HTTP (docs/serve.md); needs the extra .[serve]"
    )
    p.add_argument(
        "--model", help="model folder, or the name of an imported model (default: the newest)"
    )
    p.add_argument(
        "--host",
        default="127.0.0.1",
        help="0.0.0.0 for other machines: set a token then (default %(default)s)",
    )
    p.add_argument("--port", type=int, default=8600, help="(default %(default)s)")
    p.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="DIR",
        help="requests may name files below it by path",
    )
    p.add_argument(
        "--folder", default="serve", help="temporary files and jobs (default %(default)s)"
    )
    p.add_argument(
        "--max-mb",
        type=positive,
        default=Limits.body / 1e6,
        help="of a request (default %(default)s)",
    )
    p.add_argument(
        "--max-seconds",
        type=seconds,
        default=Limits.seconds,
        help="of a clip; longer ones are jobs (default %(default)s)",
    )
    p.add_argument(
        "--queue",
        type=count,
        default=Limits.waiting,
        help="requests that may wait (default %(default)s)",
    )
    p.add_argument("--no-page", action="store_true", help="without the page at /ui")
    add_precision(p)
    add_released_mode(p)


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return f"finished jobs are kept in {args.folder}"


def run(args: argparse.Namespace, console: Console) -> int:
    """Serves until SIGTERM or Ctrl-C.

    The token is read from $EMOJAX_TOKEN, because other users of the machine can see arguments.
    """
    try:
        import uvicorn

        from emojax.serve.app import make_app
    except ImportError as error:
        raise ValueError(
            f"the server needs more packages: pip install -e '.[serve]' ({error})"
        ) from error
    from emojax.infer.memory_plan import open_for_answers

    model = model_folder(args.model)
    token = os.environ.get("EMOJAX_TOKEN", "")
    _check(args, token)
    setup()
    bundle = open_for_answers(model, precision=args.precision, layout=args.mode)
    limits = Limits(
        body=int(args.max_mb * 1e6),
        seconds=args.max_seconds,
        waiting=args.queue,
        token=token,
        folders=tuple(map(Path, args.allow)),
    )
    folder = Path(args.folder)
    if not args.no_page:
        from emojax.serve.ui import page_environment

        os.environ.update(page_environment(folder))
    app = make_app(bundle, limits, folder, page=not args.no_page)
    # The temporary files of the web framework go there too, and are removed with it.
    tempfile.tempdir = str((folder / "requests").absolute())
    console.print(
        f"{bundle.name} answers at http://{args.host}:{args.port}/  (Ctrl-C ends it)",
        soft_wrap=True,
    )
    uvicorn.run(
        app,
        host=args.host,
        port=args.port,
        log_level="warning",
        timeout_keep_alive=10,
        server_header=False,
    )
    return 0


def _check(args: argparse.Namespace, token: str) -> None:
    if args.host not in LOCAL_HOSTS and not token:
        raise ValueError(
            f"--host {args.host} lets other machines send requests: set a token in $EMOJAX_TOKEN"
        )
    for folder in args.allow:
        if not Path(folder).is_dir():
            raise ValueError(f"--allow {folder}: there is no such folder")
    check_port_is_free(args.host, args.port)
