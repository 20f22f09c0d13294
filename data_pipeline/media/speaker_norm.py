"""Speaker normalisation: the sound of one person as if the average speaker of the training set had made it.

Who speaks changes the log-mel more than what is felt, and a model that learns from few people learns their
voices. The remedy of speech recognition (mean and variance normalisation by speaker) needs no labels: the mean and
standard deviation of each mel bin over a person's clips are moved to those of the average training speaker. It
needs to know which clips are of the same person, and the more of them the better: the figures of a person with
few clips are drawn towards the average (maximum a posteriori), so a clip of an unknown person stays as it is.

A person's films and sound files are measured apart (by suffix): they come from other microphones and codecs, and what
differs between those would be taken for the voice.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data_pipeline.media.views import Views
from data_pipeline.schema import ClipRecord

PRIOR_CLIPS = 3.0  # the average counts as much as this many clips of the person
SMALLEST_STD = 0.02  # log-mel units; below this a bin is digital silence


@dataclasses.dataclass(frozen=True)
class VoiceStats:
    """float64[mels] mean and standard deviation of Whisper's log-mel over the sound frames of `clips` clips."""

    mean: np.ndarray
    std: np.ndarray
    clips: int

    def to_json(self) -> str:
        """JSON text that `from_json` reads."""
        return json.dumps(
            {"mean": self.mean.tolist(), "std": self.std.tolist(), "clips": self.clips}
        )

    @classmethod
    def from_json(cls, text: str) -> VoiceStats:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        return cls(np.array(fields["mean"]), np.array(fields["std"]), int(fields["clips"]))


@dataclasses.dataclass(frozen=True)
class Speakers:
    """Statistics by `voice_of`, and the average that they are moved to.

    `share`: of the training rows that are normalised; the others stay as clips of unknown people are.
    """

    voices: Mapping[str, VoiceStats]
    average: VoiceStats
    share: float = 1.0

    def normalise(self, record: ClipRecord, views: Views) -> Views:
        """See `normalise_speaker`."""
        return normalise_speaker(views, self.voices.get(voice_of(record)), self.average)


def voice_of(record: ClipRecord) -> str:
    """Key of the statistics that a clip belongs to: its speaker and kind of file; "" where the speaker is not known."""
    return f"{record.speaker}|{Path(record.path).suffix.lower()}" if record.speaker else ""


def measure_speakers(items: Iterable[tuple[ClipRecord, Views]]) -> dict[str, VoiceStats]:
    """{voice_of: statistics} of every named speaker who is heard; labels are not looked at."""
    sums: dict[str, list[np.ndarray]] = {}
    frames: dict[str, int] = defaultdict(int)
    clips: dict[str, int] = defaultdict(int)
    for record, views in items:
        voice = voice_of(record)
        if not voice or not views.has_audio:
            continue
        sound = views.sound[: views.audio_frames].astype(np.float64)
        parts = [sound.sum(axis=0), np.square(sound).sum(axis=0)]
        before = sums.get(voice)
        sums[voice] = (
            parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]
        )
        frames[voice] += len(sound)
        clips[voice] += 1
    out = {}
    for name, (total, squares) in sums.items():
        mean = total / frames[name]
        std = np.sqrt(np.maximum(squares / frames[name] - np.square(mean), 0))
        out[name] = VoiceStats(mean, np.maximum(std, SMALLEST_STD), clips[name])
    return out


def average_speaker(speakers: Mapping[str, VoiceStats]) -> VoiceStats | None:
    """The mean over voices, each counted once; None where nobody is known by name."""
    if not speakers:
        return None
    stats = [speakers[name] for name in sorted(speakers)]
    mean, std = (np.mean([getattr(s, field) for s in stats], axis=0) for field in ("mean", "std"))
    return VoiceStats(mean, std, sum(s.clips for s in stats))


def normalise_speaker(views: Views, speaker: VoiceStats | None, average: VoiceStats) -> Views:
    """Views whose sound has the average speaker's mean and spread; unchanged for a speaker who is None.

    sound float32[S2, mels] -> the same shape and unit. Source: mean and variance normalisation by speaker, with the
    maximum a posteriori mean of Gauvain and Lee (1994) for the person's figures.
    """
    if speaker is None or not views.has_audio:
        return views
    trust = speaker.clips / (speaker.clips + PRIOR_CLIPS)
    mean = trust * speaker.mean + (1 - trust) * average.mean
    std = trust * speaker.std + (1 - trust) * average.std
    sound = (views.sound - mean) / std * average.std + average.mean
    return dataclasses.replace(views, sound=sound.astype(np.float32))


def normalise_items(
    items: Iterable[tuple[ClipRecord, Views]], average: VoiceStats | None
) -> list[tuple[ClipRecord, Views]]:
    """Clips of evaluation, each person normalised by what is common to his or her clips among them."""
    found = list(items)
    if average is None:
        return found
    speakers = Speakers(measure_speakers(found), average)
    return [(record, speakers.normalise(record, views)) for record, views in found]
