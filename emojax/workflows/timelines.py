"""Emotion tracks of recordings: answers each recording and writes its output files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.annotate.unit_tracks import read_units
from data_pipeline.media.container import ClipError
from data_pipeline.media.subtitles import TranscriptError, transcript_of
from data_pipeline.progress import Progress, no_progress
from emojax.bundle.model_folder import Bundle
from emojax.infer.face_detector import make_detector
from emojax.infer.face_tracks import FaceTracker
from emojax.infer.predict import TranscribeFn
from emojax.infer.timeline import make_timeline
from emojax.infer.timeline_records import Timeline, TimelineOptions
from emojax.reports.recording import write_all
from emojax.workflows.timeline_files import state_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimelineRequest:
    """What to answer about recordings, and what to write.

    Attributes:
      options: how recordings are cut, smoothed and answered.
      labels: labels to choose from; None: the model's own.
      subtitle: the transcript of all recordings, if not "".
      words: a subtitle or text file of the one recording; None: the file of its name in its folder;
        "none": no transcript.
      units: a CSV file of action units of the one recording.
      faces: the face detector that tells people apart, see `make_detector`.
      transcribe: transcribes segments for which there is no transcript; None: they have no words.
      transcriber: name of `transcribe`; kept answers are used only if it is the same.
      formats: formats of the output files.
      embed: whether the page contains the recording, see `write_all`.
      page: where the page of the one recording is written; None: with the other formats.
    """

    options: TimelineOptions
    labels: Sequence[str] | None = None
    subtitle: str = ""
    words: str | None = None
    units: str | None = None
    faces: str | None = None
    transcribe: TranscribeFn | None = None
    transcriber: str = ""
    formats: Sequence[str]
    embed: str = "auto"
    page: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimelineResult:
    """What became of one recording.

    Attributes:
      path: the recording.
      timeline: its emotion track; None if it could not be read.
      files: the files written.
      error: why it could not be read.
    """

    path: str
    timeline: Timeline | None
    files: tuple[Path, ...] = ()
    error: str = ""


def make_timelines(
    bundle: Bundle,
    recordings: Sequence[tuple[str, Path]],
    request: TimelineRequest,
    *,
    progress: Progress = no_progress,
) -> Iterator[TimelineResult]:
    """Answers recordings one by one and writes their files.

    Answered segments are kept in STEM.unfinished.jsonl until the files of the recording are
    written, so that the same call continues after an interruption.

    Args:
      bundle: the model.
      recordings: (file, path of its outputs without suffix).
      request: what to answer and to write.
      progress: gets one task per recording, in seconds.

    Yields:
      One result per recording, in order.

    Raises:
      ClipError, TranscriptError: a recording or transcript cannot be read, and `request.words`
        names a transcript.
      FileNotFoundError, ValueError: the file of action units has no times, or there is no such
        detector of faces.
    """
    units = read_units(Path(request.units)) if request.units else None
    if units is not None and (units.times is None or np.isnan(units.times).any()):
        raise ValueError(f"--units {request.units}: its rows have no times in seconds")
    detector = make_detector(request.faces) if request.faces else None
    for path, stem in recordings:
        state = state_file(stem)
        try:
            timeline = make_timeline(
                bundle,
                path,
                options=request.options,
                labels=request.labels,
                transcript=transcript_of(path, given=request.words, subtitle=request.subtitle),
                people=FaceTracker(detector) if detector else None,
                resume_file=state,
                progress=progress,
                transcribe=request.transcribe,
                transcriber_name=request.transcriber,
                units=units,
            )
        except (ClipError, TranscriptError) as error:
            if request.words:  # a file that the user named
                raise
            yield TimelineResult(path=path, timeline=None, error=str(error))
            continue
        files = write_all(
            timeline, stem, formats=request.formats, embed=request.embed, page=request.page
        )
        state.unlink(missing_ok=True)
        yield TimelineResult(path=path, timeline=timeline, files=tuple(files))
