"""`emojax weights`: lists, shows, imports and verifies weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emojax.cli.arguments import Commands
from emojax.cli.console import setup
from emojax.cli.fetch_cmd import add_import_options, import_files


def add_parser(commands: Commands) -> None:
    """Adds `weights`."""
    p = commands.add_parser("weights", help="list, show, import or verify weights")
    actions = p.add_subparsers(dest="action", required=True, metavar="action")
    a = actions.add_parser(
        "list", help="models and sources of the catalogue, and which of them are here"
    )
    a.add_argument(
        "--parts",
        action="store_true",
        help="pretrained encoders and language models, which a config names as its parts",
    )
    a.add_argument("--json", action="store_true")
    a = actions.add_parser("show", help="the sources of a model, or a part")
    a.add_argument("name", help="model of the catalogue, a model folder, or a part")
    a.add_argument("--json", action="store_true")
    a = actions.add_parser("verify", help="compare an imported model with its manifest")
    a.add_argument("name", help="model of the catalogue, a model folder, or a part")
    a = actions.add_parser("import", help="import files that are here")
    a.add_argument("name", help="model of the catalogue: see `emojax weights list`")
    add_import_options(a)


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return (
        "the model is not imported; run the same command again" if args.action == "import" else ""
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs one action."""
    setup()
    if args.action == "import":
        from emojax.workflows.fetch_weights import is_part

        if is_part(args.name, mirror=False):
            raise ValueError(
                f"{args.name} is a part, which is not imported: `emojax fetch {args.name}` gets it"
            )
        return import_files(args, console, download=False)
    return {"list": _list, "show": _show, "verify": _verify}[args.action](args, console)


def _list(args: argparse.Namespace, console: Console) -> int:
    if args.parts:
        from emojax.cli.part_table import list_parts

        return list_parts(console, as_json=args.json)
    from emojax.bundle.model_folder import MODEL_FILE
    from emojax.weights.catalogue import MODELS, SOURCES
    from emojax.weights.locations import downloads_folder, weights_folder

    models: list[dict[str, Any]] = [
        {
            "name": name,
            "title": m.title,
            "sources": list(m.sources),
            "imported": (weights_folder(name) / MODEL_FILE).exists(),
        }
        for name, m in MODELS.items()
    ]
    sources: list[dict[str, Any]] = [
        {
            "name": key,
            "title": s.title,
            "bytes": s.size,
            "licence": s.licence,
            "gated": s.gated,
            "from": s.repo or s.url or f"by hand: {s.by_hand}",
            "here": any(f.suffix != ".part" for f in (downloads_folder() / key).glob("*.*")),
        }
        for key, s in SOURCES.items()
    ]
    if args.json:
        print(json.dumps({"models": models, "sources": sources}))
        return 0
    table = Table("model", "what", "imported", title="models")
    for m in models:
        table.add_row(m["name"], m["title"], "yes" if m["imported"] else "-")
    console.print(table)
    console.print(_source_table(sources))
    return 0


def _source_table(sources: list[dict[str, Any]]) -> Table:
    columns = ("source", "GB", "from", "gated", "licence", "fetched")
    table = Table(*columns, title="sources (addresses: --json)")
    table.columns[0].no_wrap = True
    for s in sources:
        cells = (
            s["name"],
            "?" if s["bytes"] is None else f"{s['bytes'] / 1e9:.1f}",
            {"by hand": "hand", "https": "web"}.get(s["from"].split(":")[0], "hub"),
            "yes" if s["gated"] else "-",
            s["licence"].split(";")[0],
            "yes" if s["here"] else "-",
        )
        table.add_row(*cells)
    return table


def _show(args: argparse.Namespace, console: Console) -> int:
    from emojax.bundle.model_folder import MANIFEST
    from emojax.cli.part_table import show_part
    from emojax.config.part_fields import HUB, known_release
    from emojax.weights.catalogue import MODELS, SOURCES, describe_source
    from emojax.weights.locations import check_folder, weights_folder

    folder = Path(args.name) if args.name not in MODELS else weights_folder(args.name)
    if (folder / MANIFEST).exists():
        facts = json.loads((folder / MANIFEST).read_text())
        if args.json:
            print(json.dumps(facts))
        else:
            _show_imported(facts, folder, console)
        return 0
    if args.name not in MODELS:
        if not folder.exists() and (args.name.startswith(HUB) or known_release(args.name)):
            return show_part(args.name, console, as_json=args.json)
        check_folder(folder)
        raise ValueError(
            f"{folder} has no {MANIFEST}: it is not an imported model; models of the catalogue: "
            f"{', '.join(MODELS)}"
        )
    model = MODELS[args.name]
    if args.json:
        facts = {
            "name": args.name,
            "title": model.title,
            "sources": list(model.sources),
            "imported": False,
        }
        print(json.dumps(facts))
        return 0
    console.print(
        f"{args.name}: {model.title}, not imported; `emojax fetch {args.name}` needs",
        soft_wrap=True,
    )
    for key in model.sources:
        how = describe_source(SOURCES[key])
        console.print(f"  {key}: {SOURCES[key].title}\n    {how}", soft_wrap=True)
    return 0


def _show_imported(facts: dict[str, Any], folder: Path, console: Console) -> None:
    console.print(
        f"{facts['name']}: {facts['parameters']:,} parameters, imported into {folder}",
        soft_wrap=True,
    )
    for key, source in facts["sources"].items():
        console.print(f"  {key}: {source['title']} ({source['licence']})", soft_wrap=True)
        for file in source["files"]:
            console.print(
                f"    {file['file']}  {file['bytes']:,} bytes  sha256 {file['sha256']}",
                soft_wrap=True,
            )


def _verify(args: argparse.Namespace, console: Console) -> int:
    from emojax.config.part_fields import HUB, known_release, part_folder
    from emojax.weights.catalogue import MODELS
    from emojax.weights.locations import find_model
    from emojax.weights.part_files import RECORD, find_part_files, verify_part
    from emojax.weights.provenance import verify_model

    if args.name not in MODELS and (args.name.startswith(HUB) or known_release(args.name)):
        folder = part_folder(args.name)
        here = (folder / RECORD).exists()  # if not, the error says how to get the part
        differences, done = verify_part(folder if here else find_part_files(args.name)), "fetched"
    else:
        differences, done = verify_model(find_model(args.name)), "imported"
    for line in differences:
        console.print(line, soft_wrap=True)
    result = f"{len(differences)} differences" if differences else f"as it was {done}"
    console.print(f"{args.name}: {result}")
    return 1 if differences else 0
