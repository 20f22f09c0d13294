"""Recordings of `emojax predict`; imported only once a model is open, for a fast `--help`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from data_pipeline.media.segments import SegmentConfig
from emojax.bundle.model_folder import Bundle
from emojax.cli.console import progress_bars
from emojax.cli.output import on_one_line
from emojax.cli.timeline_table import show_timeline
from emojax.infer.predict import TranscribeFn
from emojax.infer.timeline_records import TimelineOptions
from emojax.reports.recording_tables import timeline_json
from emojax.workflows.answer_file import Todo
from emojax.workflows.timeline_files import output_stems
from emojax.workflows.timelines import TimelineRequest, make_timelines


def timeline_request(
    args: argparse.Namespace,
    *,
    labels: Sequence[str] | None,
    subtitle: str,
    formats: Sequence[str],
    transcribe: TranscribeFn | None,
) -> TimelineRequest:
    """What the options of the command line ask of recordings.

    Args:
      args: the parsed options.
      labels: labels to choose from; None: the model's own.
      subtitle: the transcript of all recordings, "" if unknown.
      formats: formats of the outputs.
      transcribe: transcribes segments without words.

    Raises:
      ValueError: a length of segments is out of range.
    """
    cut = SegmentConfig(longest=args.longest)
    if args.window:
        cut = SegmentConfig(mode="window", window=args.window)
    return TimelineRequest(
        options=TimelineOptions(
            cut=cut,
            smoothing=args.smoothing,
            reasons=not args.label_only,
            abstain=args.abstain,
            explain=args.contributions,
            purpose=args.purpose,
        ),
        labels=labels,
        subtitle=subtitle,
        words=args.words,
        units=args.units,
        faces=args.faces,
        transcribe=transcribe,
        transcriber=f"{args.transcribe} {args.language} {args.beams}" if transcribe else "",
        formats=formats,
        embed=args.embed,
        page=Path(args.report) if args.report else None,
    )


def predict_recordings(
    bundle: Bundle,
    request: TimelineRequest,
    todo: Todo,
    *,
    args: argparse.Namespace,
    console: Console,
) -> int:
    """Answers recordings, writes their files and prints what is in them.

    Args:
      bundle: the model.
      request: what to answer and to write.
      todo: the recordings.
      args: the parsed options: where files are written and what is printed.
      console: gets tables and messages.

    Returns:
      The exit code: 3 if some recordings were refused.
    """
    # Of all parts: two recordings of one name get different outputs, whichever part they are in.
    missing = set(todo.missing)
    stems = output_stems(
        todo.paths,
        out=args.out,
        page=args.report,
        formats=request.formats,
        answered=set(todo.paths) - missing,
    )
    recordings = [pair for pair in zip(todo.paths, stems, strict=True) if pair[0] in missing]
    with progress_bars(console) as progress:
        for result in make_timelines(bundle, recordings, request, progress=progress):
            if result.timeline is None:
                fields = {"path": result.path, "error": result.error}
                todo.add(fields)
                plain_text = f"{on_one_line(result.path)}\n  refused: {result.error}"
                print(json.dumps(fields) if args.json else plain_text, flush=True)
                continue
            fields = timeline_json(result.timeline)
            todo.add(fields | {"path": result.path})
            if args.json:
                print(json.dumps(fields, ensure_ascii=False), flush=True)
            else:
                show_timeline(result.timeline, console)
                console.print(f"written: {', '.join(map(str, result.files))}", soft_wrap=True)
    return 3 if todo.refused else 0
