"""The parts of the registry as tables: `emojax weights list --parts`, `weights show PART`."""

from __future__ import annotations

import json
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

from emojax.config.part_fields import known_release, part_folder
from emojax.weights.packages import package_name
from emojax.weights.part_files import (
    all_releases,
    describe_fields,
    is_here,
    read_record,
)
from emojax.weights.part_sizes import part_parameters


def part_rows() -> list[dict[str, Any]]:
    """One dictionary per release, in the order of the registry."""
    return [_facts(name) for name in all_releases()]


def _facts(name: str) -> dict[str, Any]:
    family, release = all_releases()[name]
    folder = part_folder(name)
    record = read_record(folder) or {}
    mirror = release.mirror
    packages = list(dict.fromkeys(package_name(f) for f in mirror.files)) if mirror else []
    return {
        "name": name,
        "kind": family.kind,
        "family": family.name,
        "family_title": family.title,
        "parameters": part_parameters(family, release.fields),
        "bytes": release.size,
        "licence": release.licence,
        "gated": release.gated,
        "repo": release.repo,
        "mirror": packages,
        "mirror_note": mirror.note if mirror else "",
        "fetched": is_here(folder),
        "from_mirror": bool(record.get("mirror")),
    }


def list_parts(console: Console, *, as_json: bool) -> int:
    """Prints all parts."""
    rows = part_rows()
    if as_json:
        print(json.dumps({"parts": rows}))
        return 0
    columns = ("part", "params", "MB", "licence", "from", "here")
    title = "parts (`emojax fetch PART`; repositories and packages: --json)"
    table = Table(*columns, title=title, box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    family = ""
    for r in rows:
        if r["family"] != family:
            table.add_section()
            family = r["family"]
            table.add_row(f"{r['family_title']}: {r['kind']}")
        origins = [
            ("hub, gated" if r["gated"] else "hub") * bool(r["repo"]),
            "mirror" * bool(r["mirror"]),
        ]
        cells = (
            f"  {r['name']}",
            count(r["parameters"]),
            "?" if r["bytes"] is None else f"{r['bytes'] / 1e6:,.{0 if r['bytes'] > 1e7 else 1}f}",
            r["licence"].split(",")[0],
            ", ".join(o for o in origins if o) or "web",
            ("mirror" if r["from_mirror"] else "yes") if r["fetched"] else "-",
        )
        table.add_row(*cells)
    console.print(table)
    return 0


def count(number: int) -> str:
    """`324 k`, `20.6 M`, `7.6 G`."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            value = number / factor
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
    return str(number)


def show_part(name: str, console: Console, *, as_json: bool) -> int:
    """Prints what is known of one part: its sizes, its sources, its files here."""
    known = known_release(name)
    folder = part_folder(name)
    record = read_record(folder)
    facts: dict[str, Any] = {"name": name, "fetched": record is not None}
    if known:
        facts = _facts(known[1].name)
    if as_json:
        fields = dict(known[1].fields) if known else {}
        print(json.dumps({**facts, "fields": fields, "folder": str(folder), "source": record}))
        return 0
    if known:
        family, release = known
        sizes = describe_fields(release.fields)
        sizes += ", " * bool(sizes)
        console.print(
            f"{release.name}: {family.title} ({family.kind}), {sizes}"
            f"{facts['parameters']:,} parameters, {release.licence}",
            soft_wrap=True,
        )
        gated = ", gated" if release.gated else ""
        console.print(f"  repository: {release.repo or 'none'}{gated}", soft_wrap=True)
        if facts["mirror"]:
            note = f" ({facts['mirror_note']})" if facts["mirror_note"] else ""
            console.print(f"  mirror: {', '.join(facts['mirror'])}{note}", soft_wrap=True)
    if record is None:
        console.print(f"not fetched; `emojax fetch {name}`", soft_wrap=True)
        return 0
    at = f"{record.get('repo')} at {record.get('revision')}"
    origin = "its mirror" if record.get("mirror") else at
    console.print(f"fetched {record.get('fetched')} from {origin} into {folder}", soft_wrap=True)
    for file in record["files"]:
        console.print(
            f"  {file['file']}  {file['bytes']:,} bytes  sha256 {file['sha256']}", soft_wrap=True
        )
    return 0
