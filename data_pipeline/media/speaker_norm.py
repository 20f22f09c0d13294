"""Speaker normalization: maps the sound of each speaker to that of the average training speaker.

Log-mel features vary more between speakers than between emotions, and a model trained on few
speakers memorizes their voices. Mean and variance normalization by speaker, known from speech
recognition, needs no labels: the mean and standard deviation of each mel bin over a speaker's clips
are mapped to those of the average training speaker. It needs to know which clips have the same
speaker, and works better with more of them: statistics of few clips are shrunk towards the average
(maximum a posteriori), so a clip of an unknown speaker remains unchanged.

A speaker's video and audio files are measured separately (by suffix): they come from different
microphones and codecs, and that difference would be attributed to the voice.
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

PRIOR_CLIPS = 3.0  # the average has the weight of this many clips of the speaker
SMALLEST_STD = 0.02  # log-mel units; below this a bin is digital silence


@dataclasses.dataclass(frozen=True)
class VoiceStats:
    """Statistics of Whisper's log-mel features of a voice.

    Attributes:
      mean: float64[mels], over all frames with sound.
      std: float64[mels], over all frames with sound.
      clips: number of clips they were measured on.
    """

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
    """Voice statistics of the speakers of a data set.

    Attributes:
      voices: statistics by key of `voice_of`.
      average: statistics of the average training speaker.
      share: proportion of training rows that are normalized; the others remain unchanged, like
        clips of unknown speakers.
    """

    voices: Mapping[str, VoiceStats]
    average: VoiceStats
    share: float = 1.0

    def normalize(self, record: ClipRecord, views: Views) -> Views:
        """Normalizes the sound of a clip; see `normalize_speaker`."""
        return normalize_speaker(views, self.voices.get(voice_of(record)), self.average)


def voice_of(record: ClipRecord) -> str:
    """Key of a clip's voice statistics: speaker and file suffix; "" if the speaker is unknown."""
    return f"{record.speaker}|{Path(record.path).suffix.lower()}" if record.speaker else ""


def measure_speakers(items: Iterable[tuple[ClipRecord, Views]]) -> dict[str, VoiceStats]:
    """Measures the voices of all named speakers; labels are not used.

    Returns:
      Statistics by key of `voice_of`.
    """
    sums: dict[str, list[np.ndarray]] = {}
    frames: dict[str, int] = defaultdict(int)
    clips: dict[str, int] = defaultdict(int)
    for record, views in items:
        voice = voice_of(record)
        if not voice or not views.has_audio:
            continue
        sound = views.sound[: views.audio_frames].astype(np.float64)
        parts = [sound.sum(axis=0), np.square(sound).sum(axis=0)]
        if (old := sums.get(voice)) is not None:
            parts = [a + b for a, b in zip(old, parts, strict=True)]
        sums[voice] = parts
        frames[voice] += len(sound)
        clips[voice] += 1
    out = {}
    for name, (total, squares) in sums.items():
        mean = total / frames[name]
        std = np.sqrt(np.maximum(squares / frames[name] - np.square(mean), 0))
        out[name] = VoiceStats(mean, np.maximum(std, SMALLEST_STD), clips[name])
    return out


def average_speaker(speakers: Mapping[str, VoiceStats]) -> VoiceStats | None:
    """The mean over voices, each with the same weight; None if no speaker is named."""
    if not speakers:
        return None
    stats = [speakers[name] for name in sorted(speakers)]
    mean, std = (np.mean([getattr(s, field) for s in stats], axis=0) for field in ("mean", "std"))
    return VoiceStats(mean, std, sum(s.clips for s in stats))


def normalize_speaker(views: Views, speaker: VoiceStats | None, average: VoiceStats) -> Views:
    """Maps the mean and deviation of the sound to the average speaker.

    Source: mean and variance normalization by speaker, with the maximum a posteriori mean of
    Gauvain and Lee (1994) for the speaker's statistics.

    Args:
      views: `sound` is float32[S2, mels].
      speaker: statistics of the speaker, None if unknown.
      average: statistics of the average training speaker.

    Returns:
      Views with `sound` of the same shape and unit; unchanged if `speaker` is None.
    """
    if speaker is None or not views.has_audio:
        return views
    trust = speaker.clips / (speaker.clips + PRIOR_CLIPS)
    mean = trust * speaker.mean + (1 - trust) * average.mean
    std = trust * speaker.std + (1 - trust) * average.std
    sound = (views.sound - mean) / std * average.std + average.mean
    return dataclasses.replace(views, sound=sound.astype(np.float32))


def normalize_items(
    items: Iterable[tuple[ClipRecord, Views]], average: VoiceStats | None
) -> list[tuple[ClipRecord, Views]]:
    """Normalizes evaluation clips with statistics of each speaker measured on these clips."""
    clips = list(items)
    if average is None:
        return clips
    speakers = Speakers(measure_speakers(clips), average)
    return [(record, speakers.normalize(record, views)) for record, views in clips]
