"""`emojax predict`: answers clips one by one, or recordings as an emotion track (--timeline)."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from data_pipeline.media.notes import count_notes, counted
from data_pipeline.suggestions import not_one_of
from emojax.cli.arguments import (
    Commands,
    add_precision,
    add_released_mode,
    beams,
    name_list,
    not_negative,
    part,
    positive,
    seconds,
    share,
)
from emojax.cli.console import progress_bars, setup
from emojax.cli.manifest_options import labels_to_choose_from
from emojax.cli.output import answer_text, model_folder

if TYPE_CHECKING:
    from emojax.bundle.model_folder import Bundle
    from emojax.workflows.answer_file import Todo

FORMATS = ("json", "csv", "parquet", "srt", "vtt", "eaf", "png", "html")
FURTHER_FORMATS = ("svg", "pdf")  # written only where they are named
# Options of recordings with a default: {name: default}. `longest` and `smoothing` repeat those of
# SegmentConfig and TimelineOptions, because importing their modules would make --help slow.
RECORDING_DEFAULTS = {
    "formats": ",".join(FORMATS),
    "longest": 10.0,
    "smoothing": 2.0,
    "embed": "auto",
}


def add_parser(commands: Commands) -> None:
    """Adds `predict`."""
    p = commands.add_parser(
        "predict",
        help="label, probabilities and reason of media files; an emotion track of recordings "
        "(--timeline)",
        description="Answers clips one by one, or recordings of any length as an emotion track "
        "(--timeline).",
    )
    p.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, or folders that are searched for media"
    )
    p.add_argument(
        "--model",
        help="model folder, or the name of an imported model (default: the newest imported or "
        "demo model)",
    )
    p.add_argument("--subtitle", default="", help="transcript, the same for all files")
    p.add_argument(
        "--words",
        metavar="FILE",
        help="subtitles (.srt, .vtt, .ass) or text (.txt) of the one clip or recording; default: "
        "the file of its name in its folder; 'none' reads none",
    )
    p.add_argument(
        "--labels", metavar="A,B,...", help="labels to choose from (default: the model's own)"
    )
    _add_transcription(p)
    _add_answer_options(p)
    add_precision(p)
    add_released_mode(p)
    _add_recording_options(p)


def _add_transcription(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--transcribe",
        metavar="PART",
        help="transcribe files without transcript: a fetched Whisper (whisper-base) or a folder of "
        "its released files; it must be the Whisper model that is the model's audio encoder",
    )
    p.add_argument(
        "--language",
        metavar="CODE",
        help="with --transcribe: en, zh, ...; default: the most probable one per clip",
    )
    p.add_argument(
        "--beams",
        type=beams,
        default=1,
        metavar="N",
        help="with --transcribe: 1 is greedy (default %(default)s)",
    )


def _add_answer_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--label-only", action="store_true", help="no written reason: one forward pass per clip"
    )
    p.add_argument(
        "--one-speaker",
        action="store_true",
        help="all files are of one person: audio features are normalised over them (models "
        "trained with speaker normalisation)",
    )
    p.add_argument(
        "--abstain",
        type=share,
        default=0.0,
        metavar="P",
        help='answer "cannot tell" below this probability',
    )
    p.add_argument(
        "--repetition-penalty",
        type=positive,
        default=1.0,
        metavar="P",
        help="above 1: makes repetitions in the reasons of clips less probable",
    )
    p.add_argument(
        "--contributions",
        action="store_true",
        help="measure how much video, audio and text each contribute to the answer",
    )
    p.add_argument(
        "--fusion-weights",
        action="store_true",
        help="with --json: the weights of the Conv-Attention at each position",
    )
    p.add_argument("--json", action="store_true", help="one JSON object per line")
    p.add_argument(
        "--shard",
        type=part,
        metavar="I/N",
        help="answer only the I-th of N equal parts (from 1), for several machines; they must see "
        "the same files",
    )
    p.add_argument(
        "--resume",
        metavar="FILE.jsonl",
        help="write each answer into this file as JSON, too; files that are answered there are not "
        "answered again",
    )
    p.add_argument(
        "--decode-timeout",
        type=seconds,
        default=8.0,
        help="refuse a file that takes longer to decode (default %(default)s s)",
    )
    p.add_argument(
        "--purpose",
        default="",
        metavar="TEXT",
        help="what this is for; kept in the outputs (docs/responsible_use.md)",
    )


def _add_recording_options(p: argparse.ArgumentParser) -> None:
    t = p.add_argument_group("recordings of minutes to hours")
    t.add_argument(
        "--timeline",
        action="store_true",
        help="an emotion track instead of one answer per file; --report, --window, --longest, "
        "--smoothing, --units and --faces imply it",
    )
    t.add_argument(
        "--report",
        metavar="FILE.html",
        help="the page of one recording; other formats go to its folder",
    )
    t.add_argument("--out", metavar="DIR", help="folder of the outputs (default: NAME-emotions)")
    t.add_argument(
        "--formats",
        default=RECORDING_DEFAULTS["formats"],
        help="of the outputs, also svg and pdf (default %(default)s)",
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
        default=RECORDING_DEFAULTS["longest"],
        metavar="S",
        help="longest segment (default %(default)s s)",
    )
    t.add_argument(
        "--smoothing",
        type=not_negative,
        default=RECORDING_DEFAULTS["smoothing"],
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
        metavar="DETECTOR",
        help="tell people apart by their faces: face-api (`emojax fetch tiny-face-detector`) "
        "or an .onnx file of YuNet (needs the extra .[people])",
    )
    t.add_argument(
        "--embed",
        choices=("auto", "always", "never"),
        default=RECORDING_DEFAULTS["embed"],
        help="whether the page contains the recording itself; auto: up to 25 MB "
        "(default %(default)s)",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Answers clips or recordings; exit code 3 if some files were refused."""
    args.timeline = _is_recording(args)
    _check_options(args)
    formats = _formats(args.formats)
    setup()
    from data_pipeline.datasets.file_index import search_media

    folder = model_folder(args.model)
    is_recording = args.timeline
    found = search_media(args.paths, pictures=not is_recording)
    for note in found.notes():
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    paths = found.files
    if not paths:
        return 3
    if len(paths) > 1 and args.words not in (None, "none"):
        raise ValueError(
            "--words FILE is for one file; without it each has the words of the file of its name"
        )
    if is_recording:
        _check_recordings(args, paths)
    from emojax.bundle.model_folder import model_name, read_facts
    from emojax.infer.memory_plan import open_for_answers
    from emojax.workflows.answer_file import Todo

    facts, _ = read_facts(folder)
    labels = labels_to_choose_from(args.labels, facts["labels"])
    todo = Todo.of(paths, part=args.shard, resume=args.resume)
    if todo.file is not None:
        todo.file.check_question(
            model=model_name(folder, facts),
            labels=labels or facts["labels"],
            is_recording=is_recording,
        )
    if not todo.missing:
        console.print(f"nothing is left to answer: {counted(len(todo.part), 'file')} in this part")
        return 3 if todo.refused else 0
    bundle = open_for_answers(folder, precision=args.precision, layout=args.mode)
    # bytes of the command line that are not UTF-8 are replaced
    subtitle = args.subtitle.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    with todo.writing():
        if is_recording:
            from emojax.cli.predict_timelines import predict_recordings, timeline_request

            request = timeline_request(
                args,
                labels=labels,
                subtitle=subtitle,
                formats=formats,
                transcribe=_transcriber(args),
            )
            return predict_recordings(bundle, request, todo, args=args, console=console)
        return _predict_clips(args, console, bundle, todo=todo, labels=labels, subtitle=subtitle)


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on; "" if it has kept nothing."""
    if args.resume:
        file = Path(args.resume)
        if not file.is_file() or not file.stat().st_size:
            return ""
        return f"answers are kept in {file}; run the same command again to go on"
    if args.timeline or args.report:
        folder = Path(args.report).parent if args.report else Path(args.out or "")
        begun = "*.unfinished.jsonl" if args.report or args.out else "*-emotions/*.unfinished.jsonl"
        if not any(folder.glob(begun)):
            return ""
        return "answered segments are kept; run the same command again to go on"
    return (
        "the printed answers are complete; with --resume FILE.jsonl the same command goes on where "
        "it was stopped"
    )


def _is_recording(args: argparse.Namespace) -> bool:
    """Whether the files are recordings: --timeline, or an option that only recordings have."""
    implied = ("report", "window", "longest", "smoothing", "units", "faces")
    return args.timeline or any(getattr(args, n) != _default_of(n) for n in implied)


def _default_of(name: str) -> Any:
    return RECORDING_DEFAULTS.get(name)


def _check_options(args: argparse.Namespace) -> None:
    given = [n for n in ("out", "formats", "embed") if getattr(args, n) != _default_of(n)]
    if not args.timeline and given:
        raise ValueError(
            f"--{given[0]} is for recordings: give --timeline too, or --report FILE.html"
        )
    if args.report and not args.report.lower().endswith((".html", ".htm")):
        raise ValueError(
            f"--report {args.report}: the page is a .html file; the other formats are written "
            "to its folder"
        )
    if args.report and args.out:
        raise ValueError("--report FILE.html and --out DIR both name a folder: give one of them")
    if args.window and args.longest != RECORDING_DEFAULTS["longest"]:
        raise ValueError(
            "--window cuts equal parts and --longest limits unequal ones: give one of them"
        )
    if args.subtitle and args.words not in (None, "none"):
        raise ValueError("--subtitle and --words both give the spoken words: give one of them")
    if args.fusion_weights and (args.timeline or not args.json):
        raise ValueError(
            "--fusion-weights are those of single clips: give --json and no --timeline"
        )


def _check_recordings(args: argparse.Namespace, paths: Sequence[str]) -> None:
    if len(paths) > 1 and (args.report or args.units):
        raise ValueError(
            "--report and --units are for one recording; several are written with --out DIR"
        )
    if args.one_speaker:
        raise ValueError(
            "--one-speaker is for clips; segments of a recording may show different people"
        )


def _formats(text: str) -> list[str]:
    formats, known = name_list(text.lower()), (*FORMATS, *FURTHER_FORMATS)
    if not formats:
        raise ValueError(f"--formats {text}: there are {', '.join(known)}")
    for name in formats:
        if name not in known:
            raise ValueError(f"--formats: {not_one_of(name, known)}")
    return formats


def _transcriber(args: argparse.Namespace) -> Any:
    if not args.transcribe:
        if args.language or args.beams != 1:
            raise ValueError("--language and --beams are for --transcribe PART")
        return None
    from emojax.infer.transcribe import open_transcriber
    from emojax.weights.part_files import find_part_files

    return functools.partial(
        open_transcriber(find_part_files(args.transcribe)), language=args.language, beams=args.beams
    )


def _predict_clips(
    args: argparse.Namespace,
    console: Console,
    bundle: Bundle,
    *,
    todo: Todo,
    labels: Sequence[str] | None,
    subtitle: str,
) -> int:
    from emojax.infer.predict import PredictOptions, measure_speaker, predict

    transcribe = _transcriber(args)
    speakers, timeout = None, args.decode_timeout
    notes: list[tuple[str, ...]] = []  # of each answer
    known: set[str] = set()
    with progress_bars(console) as progress:
        if args.one_speaker:
            speakers = measure_speaker(bundle, todo.paths, timeout=timeout, progress=progress)
        options = PredictOptions(
            reason=not args.label_only,
            speakers=speakers,
            abstain=args.abstain,
            explain=args.contributions,
            repetition_penalty=args.repetition_penalty,
            fusion_weights=args.fusion_weights,
            words=args.words,
            transcribe=transcribe,
        )
        total, before = len(todo.part), len(todo.part) - len(todo.missing)
        progress("predict", before, total)
        answers = predict(
            bundle, todo.missing, labels=labels, subtitle=subtitle, timeout=timeout, options=options
        )
        for number, answer in enumerate(answers, before + 1):
            fields = answer.to_json() | ({"purpose": args.purpose} if args.purpose else {})
            todo.add(fields)
            text = answer_text(answer, known=known)
            print(json.dumps(fields, ensure_ascii=False) if args.json else text, flush=True)
            notes.append(answer.notes)
            known.update(answer.notes)
            progress("predict", number, total)
    if total > 1 and any(notes):
        console.print(f"notes on {sum(map(bool, notes))} of {counted(len(notes), 'file')}:")
        for line in count_notes(notes, noun="file"):
            console.print(f"  {line}", soft_wrap=True)
    return 3 if todo.refused else 0
