"""The commands that answer: predict (clips and recordings), calibrate."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emojax.cli.arguments import not_negative, seconds, share
from emojax.cli.console import setup
from emojax.cli.progress_bars import bar

NO_MODEL = """there is no model yet. Three ways to get one:
  emojax demo                                    trains a small one on the embedded corpus, in minutes
  emojax train --manifest M.csv --out DIR        trains on your own clips; then give --model DIR
  emojax fetch emotion-llama-v2                  downloads and imports released weights (19 GB; needs accelerators)"""
FORMATS = ("json", "csv", "parquet", "srt", "vtt", "eaf", "png", "html")


def add_parsers(commands: Any) -> None:
    """Adds `calibrate` and `predict`."""
    p = commands.add_parser(
        "calibrate",
        help="fit the temperature of a model's probabilities on clips with known labels",
    )
    p.add_argument("model", help="model folder, or the name of an imported model")
    p.add_argument(
        "--manifest", required=True, help="CSV as for train; not the clips that scores are told of"
    )
    p.add_argument(
        "--split",
        type=str.lower,
        choices=("train", "val", "test"),
        default="val",
        help="(default %(default)s)",
    )

    p = commands.add_parser(
        "predict",
        help="label, probabilities and reason of media files; an emotion track of recordings (--timeline)",
        description="Answers clips one by one, or recordings of any length as an emotion track (--timeline).",
    )
    p.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, or folders that are searched for media"
    )
    p.add_argument(
        "--model",
        help="model folder, or the name of an imported model (default: the newest imported or demo model)",
    )
    p.add_argument("--subtitle", default="", help="what is said, for all files alike")
    p.add_argument(
        "--labels", metavar="A,B,...", help="labels to choose from (default: the model's own)"
    )
    p.add_argument(
        "--transcribe",
        metavar="DIR",
        help="hear the words where none are given: folder of Whisper's released files (config.json, generation_config.json, "
        "tokenizer.json, *.safetensors), of the Whisper that the model hears by",
    )
    p.add_argument(
        "--language",
        metavar="CODE",
        help="with --transcribe: en, zh, ...; default: the likeliest of each clip",
    )
    p.add_argument(
        "--beams",
        type=int,
        default=1,
        metavar="N",
        help="with --transcribe: 1 is greedy (default %(default)s)",
    )
    p.add_argument(
        "--label-only", action="store_true", help="no written reason: one forward pass a clip"
    )
    p.add_argument(
        "--one-speaker",
        action="store_true",
        help="all files are of one person: what is common to his or her voice is taken out (models trained on named speakers)",
    )
    p.add_argument(
        "--int8", action="store_true", help="frozen kernels as int8: half the memory of bfloat16"
    )
    p.add_argument(
        "--abstain",
        type=share,
        default=0.0,
        metavar="P",
        help='answer "cannot tell" below this probability',
    )
    p.add_argument(
        "--contributions",
        action="store_true",
        help="measure what picture, sound and words each add to the answer",
    )
    p.add_argument(
        "--fusion-weights",
        action="store_true",
        help="with --json: the Conv-Attention's weights of each position",
    )
    p.add_argument("--json", action="store_true", help="one JSON object a line")
    p.add_argument(
        "--decode-timeout",
        type=seconds,
        default=8.0,
        help="refuse a file that takes longer (default %(default)s s)",
    )
    p.add_argument(
        "--purpose",
        default="",
        metavar="TEXT",
        help="what this is for; kept in the outputs (docs/responsible_use.md)",
    )
    t = p.add_argument_group("recordings of minutes to hours")
    t.add_argument(
        "--timeline", action="store_true", help="an emotion track instead of one answer a file"
    )
    t.add_argument(
        "--report",
        metavar="FILE.html",
        help="the page of one recording; other formats are put beside it",
    )
    t.add_argument("--out", metavar="DIR", help="folder of the outputs (default: NAME-emotions)")
    t.add_argument(
        "--formats", default=",".join(FORMATS), help="of the outputs (default %(default)s)"
    )
    t.add_argument(
        "--words",
        metavar="FILE",
        help="subtitles (.srt, .vtt, .ass) or text (.txt) of the one recording; default: the file of its name beside it; "
        "'none' reads none",
    )
    t.add_argument(
        "--window",
        type=seconds,
        metavar="S",
        help="equal parts of S seconds, instead of changes of shot and pauses",
    )
    t.add_argument(
        "--longest",
        type=seconds,
        default=10.0,
        metavar="S",
        help="longest segment (default %(default)s s)",
    )
    t.add_argument(
        "--smoothing",
        type=not_negative,
        default=2.0,
        metavar="S",
        help="of the curves, standard deviation in seconds (default %(default)s)",
    )
    t.add_argument(
        "--units",
        metavar="FILE.csv",
        help="action units of the one recording, by OpenFace or py-feat: evidence",
    )
    t.add_argument(
        "--faces",
        metavar="MODEL.onnx",
        help="tell people apart by this face detector (emojax[people])",
    )
    t.add_argument(
        "--embed",
        choices=("auto", "always", "never"),
        default="auto",
        help="whether the page holds the recording itself; auto: up to 25 MB (default %(default)s)",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs `calibrate` or `predict`."""
    return _calibrate(args, console) if args.command == "calibrate" else _predict(args, console)


def _calibrate(args: argparse.Namespace, console: Console) -> int:
    from emojax.bundle.model_folder import load_bundle
    from emojax.weights.locations import find_model
    from emojax.workflows import jobs

    setup()
    folder = find_model(args.model)
    bundle = load_bundle(folder)
    records = [
        r
        for r in jobs.read_records(args.manifest, console, labels=bundle.labels)
        if r.split == args.split
    ]
    if not records:
        raise ValueError(f"{args.manifest} has no row of split '{args.split}'")
    source = jobs.open_views(records, bundle.settings, console)[args.split]
    return (
        0 if jobs.calibrate(folder, source, console, name=f"{args.manifest}, {args.split}") else 2
    )


def _predict(args: argparse.Namespace, console: Console) -> int:
    from emojax.infer.predict import Ask, default_model, find_media, listen, predict
    from emojax.weights.locations import find_model

    timeline = args.timeline or args.report
    of_recordings = {
        "formats": ",".join(FORMATS),
        "longest": 10.0,
        "smoothing": 2.0,
        "embed": "auto",
    }
    given = [n for n in ("out", "words", "window", "faces", "units") if getattr(args, n)]
    given += [n for n, usual in of_recordings.items() if getattr(args, n) != usual]
    if not timeline and given:
        raise ValueError(f"--{given[0]} is for recordings: give --timeline too")
    if args.report and not args.report.lower().endswith((".html", ".htm")):
        raise ValueError(
            f"--report {args.report}: the page is a .html file; the other formats are written beside it"
        )
    if args.window and args.longest != 10.0:
        raise ValueError(
            "--window cuts equal parts and --longest limits unequal ones: give one of them"
        )
    if args.subtitle and args.words not in (None, "none"):
        raise ValueError("--subtitle and --words both say what is said: give one of them")
    if args.fusion_weights and (timeline or not args.json):
        raise ValueError(
            "--fusion-weights are numbers of single clips: give --json and no --timeline"
        )
    formats = _formats(args.formats)
    folder = find_model(args.model) if args.model else default_model()
    if folder is None:
        console.print(NO_MODEL, soft_wrap=True)
        return 2
    from emojax.bundle.model_folder import as_int8, load_bundle
    from emojax.infer.prepare import ready

    setup()
    paths = find_media(args.paths)
    if not paths:
        console.print(f"no media file in {', '.join(args.paths)}")
        return 3
    labels = (
        list(dict.fromkeys(filter(None, map(str.strip, (args.labels or "").split(","))))) or None
    )
    if labels and len(labels) < 2:
        raise ValueError("--labels needs at least two labels, separated by commas")
    if timeline:
        if len(paths) > 1 and (args.report or args.units or args.words not in (None, "none")):
            raise ValueError(
                "--report, --units and --words FILE are of one recording; several are written with --out DIR"
            )
        if args.one_speaker:
            raise ValueError(
                "--one-speaker is for clips; segments of a recording may be of anybody"
            )
    bundle = ready(as_int8(load_bundle(folder)) if args.int8 else load_bundle(folder))
    subtitle = args.subtitle.encode("utf-8", "surrogateescape").decode(
        "utf-8", "replace"
    )  # bytes that are no text
    if timeline:
        return _timelines(
            args, console, bundle, paths=paths, labels=labels, subtitle=subtitle, formats=formats
        )
    transcribe = _transcriber(args)
    refused, speakers, timeout = 0, None, args.decode_timeout
    if args.one_speaker:
        with bar(console, "listen") as tick:
            speakers = listen(bundle, paths, timeout=timeout, tick=lambda n: tick(n, len(paths)))
    with bar(console, "predict") as tick:
        answers = predict(
            bundle,
            paths,
            labels=labels,
            subtitle=subtitle,
            timeout=timeout,
            ask=Ask(
                reason=not args.label_only,
                speakers=speakers,
                abstain=args.abstain,
                explain=args.contributions,
                weights=args.fusion_weights,
                transcribe=transcribe,
            ),
        )
        for number, answer in enumerate(answers, 1):
            refused += answer.error is not None
            fields = answer.to_json() | ({"purpose": args.purpose} if args.purpose else {})
            print(
                json.dumps(fields, ensure_ascii=False) if args.json else plain(answer), flush=True
            )
            tick(number, len(paths))
    return 3 if refused else 0


def _transcriber(args: argparse.Namespace) -> Any:
    if not args.transcribe:
        if args.language or args.beams != 1:
            raise ValueError("--language and --beams are for --transcribe DIR")
        return None
    if not 1 <= args.beams <= 16:
        raise ValueError(f"--beams {args.beams}: give 1 to 16")
    from emojax.infer.transcribe import open_transcriber

    return functools.partial(
        open_transcriber(Path(args.transcribe)), language=args.language, beams=args.beams
    )


def _formats(text: str) -> list[str]:
    found = list(dict.fromkeys(filter(None, (f.strip().lower() for f in text.split(",")))))
    if not found or (strange := [f for f in found if f not in FORMATS]):
        raise ValueError(
            f"--formats {text}: there are {', '.join(FORMATS)}"
            + (f", not {strange[0]}" if found else "")
        )
    return found


def _timelines(
    args: argparse.Namespace,
    console: Console,
    bundle: Any,
    *,
    paths: Sequence[str],
    labels: list[str] | None,
    subtitle: str,
    formats: list[str],
) -> int:
    import numpy as np

    from data_pipeline.annotate.unit_tracks import read_units
    from data_pipeline.media.clip import ClipError
    from data_pipeline.media.segments import SegmentConfig
    from data_pipeline.media.transcript import TranscriptError
    from emojax.infer.face_tracks import Faces, OpenCvFaces
    from emojax.infer.timeline import Options, make_timeline
    from emojax.reports.recording import put, write_all
    from emojax.reports.recording_tables import timeline_json

    cut = (
        SegmentConfig(mode="window", window=args.window)
        if args.window
        else SegmentConfig(longest=args.longest)
    )
    options = Options(
        cut=cut, smoothing=args.smoothing, reasons=not args.label_only, abstain=args.abstain, explain=args.contributions,
        purpose=args.purpose,
    )  # fmt: skip
    refused = 0
    units = read_units(Path(args.units)) if args.units else None
    if units is not None and (units.times is None or np.isnan(units.times).any()):
        raise ValueError(f"--units {args.units}: its rows have no times in seconds")
    transcribe = _transcriber(args)
    transcriber = f"{args.transcribe} {args.language} {args.beams}" if transcribe else ""
    stems = _stems(args, paths)
    for path, stem in zip(paths, stems, strict=True):
        people = Faces(OpenCvFaces(Path(args.faces))) if args.faces else None
        try:
            words = _words(args.words, Path(path), subtitle)
            state = stem.with_name(f"{stem.name}.unfinished.jsonl")
            with bar(console, Path(path).name[:40]) as tick:

                def count(done: float, total: float, tick=tick) -> None:  # type: ignore[no-untyped-def]
                    tick(int(done), int(total))

                found = make_timeline(
                    bundle,
                    path,
                    options=options,
                    labels=labels,
                    transcript=words,
                    people=people,
                    state=state,
                    tick=count,
                    transcribe=transcribe,
                    transcriber=transcriber,
                    units=units,
                )
        except (ClipError, TranscriptError) as error:
            if args.words:  # a file that the user named
                raise
            refused += 1
            print(
                json.dumps({"path": path, "error": str(error)})
                if args.json
                else f"{path}\n  refused: {error}",
                flush=True,
            )
            continue
        page = Path(args.report) if args.report else None
        written = write_all(
            found,
            stem,
            formats=[f for f in formats if not (page and f == "html")],
            embed=args.embed,
        )
        if page:
            from emojax.reports.recording_page import to_html

            put(page, to_html(found, args.embed, page.parent))
            written.append(page)
        state.unlink(missing_ok=True)
        if args.json:
            print(json.dumps(timeline_json(found), ensure_ascii=False), flush=True)
        else:
            show(found, console)
            console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)
    return 3 if refused else 0


def _stems(args: argparse.Namespace, paths: Sequence[str]) -> list[Path]:
    """Where the outputs of each recording go, without suffix; no two share a name."""
    used: set[Path] = set()
    out = []
    for path in paths:
        name = Path(path).stem
        if args.report:
            stem = Path(args.report).with_suffix("")
        else:
            stem = (Path(args.out) if args.out else Path(f"{name}-emotions")) / name
        if stem.absolute() == Path(path).absolute().with_suffix(""):
            stem = stem.with_name(
                f"{stem.name}.emotions"
            )  # `talk.srt` beside `talk.mp4` is what was said
        number, first = 1, stem
        while stem.absolute() in used:
            number += 1
            stem = first.with_name(f"{first.name}-{number}")
        used.add(stem.absolute())
        out.append(stem)
    return out


def _words(given: str | None, path: Path, subtitle: str) -> Any:
    from data_pipeline.media.stream import recording_seconds
    from data_pipeline.media.transcript import (
        Transcript,
        find_subtitles,
        read_transcript,
        untimed_transcript,
    )

    if subtitle:
        return untimed_transcript(subtitle, str(path))
    if given == "none":
        return Transcript()
    file = Path(given) if given else find_subtitles(path)
    if given and not Path(given).is_file():
        raise ValueError(f"--words {given}: there is no such file")
    return read_transcript(file, duration=recording_seconds(str(path))) if file else Transcript()


def plain(answer: Any) -> str:
    """An answer for people to read."""
    if answer.error is not None:
        return f"{answer.path}\n  refused: {answer.error}"
    best = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])[:3]
    lines = [answer.path, f"  {answer.label}   " + ", ".join(f"{name} {p:.2f}" for name, p in best)]
    if answer.leading:
        lines[-1] = f"  {answer.label}: {answer.leading[0]} or {answer.leading[1]}   " + ", ".join(
            f"{n} {p:.2f}" for n, p in best
        )
    if answer.contributions is not None:
        told = ", ".join(f"{m} {v:+.2f}" for m, v in answer.contributions.items())
        lines.append(
            f"  adds to the log-probability of the likeliest: {told or 'nothing is there'}"
        )
    if answer.transcript is not None:
        lines.append(f"  heard ({answer.transcript['language']}): {answer.transcript['text']}")
    if answer.reason:
        lines.append("  " + "".join(c if c.isprintable() else " " for c in answer.reason))
    lines.append(
        f"  from {', '.join(answer.modalities)}"
        + (f"; {'; '.join(answer.notes)}" if answer.notes else "")
    )
    return "\n".join(lines)


def show(timeline: Any, console: Console) -> None:
    """A timeline in the terminal: time by label, then the changes."""
    time: dict[str, float] = {}
    for s in timeline.spans:
        if s.answer.label:
            time[s.answer.label] = time.get(s.answer.label, 0.0) + s.end - s.start
    total = sum(time.values()) or 1.0
    table = Table(
        title=f"{Path(timeline.path).name}: {timeline.seconds:.0f} s, {len(timeline.spans)} segments"
    )
    table.add_column("shown")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    for label in sorted(time, key=lambda n: -time[n]):
        part = time[label] / total
        table.add_row(label, f"{time[label]:.1f}", f"{part:.0%}", "█" * max(1, round(24 * part)))
    console.print(table)
    found = [(c, p) for p, changes in timeline.changes.items() for c in changes]
    told = ", ".join(f"{c.time:.1f} s {c.before} > {c.after}" for c, _ in found[:6])
    console.print(
        f"{len(found)} changes"
        + (f": {told}" if told else "")
        + (" ..." if len(found) > 6 else ""),
        soft_wrap=True,
    )
    failed = sum(s.answer.error is not None for s in timeline.spans)
    if failed:
        console.print(f"{failed} segments were not answered: nothing to see, hear or read in them")
    for note in timeline.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(
        f"answered in {timeline.took:.1f} s, {timeline.seconds / max(timeline.took, 0.01):.1f} times real time"
    )
