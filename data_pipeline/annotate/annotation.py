"""The annotation of one clip: measurements, replies of the agents, label; one line of JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from data_pipeline.media.prosody import Voice

VERSION = 2  # of the fields; clips with an annotation of another version are annotated again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Annotation:
    """The annotation of one clip. The field names are the keys of annotations.jsonl.

    Attributes:
      clip: the clip's id.
      key: hash of everything that the annotation depends on.
      path: the media file.
      media: hash of the media file.
      label: the emotion, "" if there is none.
      label_from: `given`, `votes` (of the action units) or `model`; "" without a label.
      labels: the label space.
      votes: votes of the peak's action units by label.
      units: the label's action units that are present at the peak (MERR's AU_list).
      peak_units: all action units that are present at the peak.
      ever: action units that are present in any frame; None if nothing was measured.
      peak_index: frame number from 0, within the span; None without a picture.
      peak_time: seconds, None if unknown.
      peak_by: how the peak was found, see peaks.Peak.
      units_from: source of the action units, "" if none were measured.
      words: the transcript.
      words_from: `given`, `transcribed` or "".
      notes: replies of the agents, by agent.
      authors: model that replied, as named by the server, by agent.
      coarse: the text of MERR's coarse template.
      voice: measurements of the sound, None without sound.
      faults: why an agent has no reply, by agent.
      remarks: irregularities of the file.
      left_out: why the clip cannot be used, "" if it can.
      speaker: as given.
      split: as given.
      dataset: as given.
      start: seconds, for a clip that is a span of its file.
      end: seconds, for a clip that is a span of its file.
      version: VERSION.
    """

    clip: str
    key: str
    path: str
    media: str
    label: str = ""
    label_from: str = ""
    labels: tuple[str, ...] = ()
    votes: dict[str, int] = dataclasses.field(default_factory=dict)
    units: tuple[int, ...] = ()
    peak_units: tuple[int, ...] = ()
    ever: tuple[int, ...] | None = None
    peak_index: int | None = None
    peak_time: float | None = None
    peak_by: str = ""
    units_from: str = ""
    words: str = ""
    words_from: str = ""
    notes: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    authors: dict[str, str] = dataclasses.field(default_factory=dict)
    coarse: str = ""
    voice: Voice | None = None
    faults: dict[str, str] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    left_out: str = ""
    speaker: str = ""
    split: str = ""
    dataset: str = ""
    start: float | None = None
    end: float | None = None
    version: int = VERSION

    @property
    def reason(self) -> str:
        """The explanation to train on: the reasoning agent's, else the template's."""
        return self.notes.get("reasoning", {}).get("reason", "") or self.coarse

    @property
    def digest(self) -> str:
        """Hash of what annotators judge, to tell which text a mark belongs to."""
        judged = [self.label, self.words, self.notes, self.coarse, self.peak_units]
        return hashlib.sha256(json.dumps(judged, sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Returns one line of JSON."""
        text = json.dumps(dataclasses.asdict(self), ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    @classmethod
    def from_json(cls, line: str | bytes) -> Annotation:
        """Reads one line.

        Raises:
          ValueError: the line is not an annotation of this version.
        """
        fields = json.loads(line)
        if not isinstance(fields, dict) or fields.get("version") != VERSION:
            raise ValueError("not an annotation of this version")
        try:
            lists = {k: tuple(fields[k]) for k in ("labels", "units", "peak_units", "remarks")}
            ever = None if fields["ever"] is None else tuple(fields["ever"])
            voice = Voice(**fields["voice"]) if fields["voice"] else None
            return cls(**{**fields, **lists, "ever": ever, "voice": voice})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an annotation ({error})") from error
