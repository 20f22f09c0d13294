"""One clip -> its annotation: action units and peak, label, what each agent says, the coarse template."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.annotate import units
from data_pipeline.annotate.agents import Agent, ClipContext, agent
from data_pipeline.annotate.peaks import (
    Peak,
    UnitProvider,
    UnitsError,
    UnitTrack,
    find_apex,
    find_peak,
)
from data_pipeline.annotate.recipe import FILTERS, Recipe, prompt_hashes
from data_pipeline.llm.client import ChatClient, Reply, is_retryable
from data_pipeline.media.clip import ClipError, Sampling, read_clip
from data_pipeline.media.prosody import Voice, measure_voice
from data_pipeline.schema import Clip, ClipRecord

VERSION = 2  # of what a record holds; another one is not read again
Transcribe = Callable[[np.ndarray], tuple[str, str]]  # float32[n] at 16 kHz -> (words, language)


class Unfinished(Exception):
    """An endpoint gave no reply: the clip is asked again by the next run; str() says which and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Annotation:
    """What is known of one clip.

    Attributes:
      clip: its id.  key: hash of everything that the annotation depends on.
      path, media: the file, and its hash.
      label, label_from: `given`, `votes` or `model`; "" where there is none.  labels: the label space.
      votes: label of the table -> votes of the peak's units.
      units: of the label, present at the peak (MERR's AU_list).  peak_units: all that are present at the peak.
      ever: all that are present in any frame; None where nothing was measured.
      peak_index, peak_time: frame from 0, s; None without a picture.  peak_by: how it was found, see Peak.by.
      units_from: who measured them, "" for nobody.
      words, words_from: what is said; `given`, `transcribed` or "".
      notes: what the agents answered, by agent.  authors: the model that answered, in the server's words, by agent.
      coarse: the template's text.  voice: measured of the sound.
      faults: why an agent has no answer, by agent.  remarks: what was irregular of the file.
      left_out: why the clip can not be used; "" if it can.
      speaker, split, dataset: as given.  start, end: s, of a clip that is a span of its file; frames count from there.
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
        """The text that a model learns to write: the reasoning agent's, else the template's."""
        return self.notes.get("reasoning", {}).get("reason", "") or self.coarse

    @property
    def digest(self) -> str:
        """Of what people judge: texts and label; marks are of one of these."""
        judged = [self.label, self.words, self.notes, self.coarse, self.peak_units]
        return hashlib.sha256(json.dumps(judged, sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Annotation:
        """The inverse; raises ValueError for anything else."""
        found = json.loads(line)
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise ValueError("no annotation of this version")
        try:
            lists = {k: tuple(found[k]) for k in ("labels", "units", "peak_units", "remarks")}
            ever = None if found["ever"] is None else tuple(found["ever"])
            voice = Voice(**found["voice"]) if found["voice"] else None
            return cls(**{**found, **lists, "ever": ever, "voice": voice})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no annotation ({error})") from error


def media_hash(path: Path) -> str:
    """SHA-256 of a file's content, 24 hex digits; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]


@dataclasses.dataclass(kw_only=True)
class Annotator:
    """Annotates clips by one recipe.

    Attributes:
      askers: by agent; one may serve several.  provider: of action units, None for nobody.
      transcribe: hears the words where none are given.
      again: clips that people sent back, with their remark: they are asked anew, and told so.
    """

    recipe: Recipe
    clients: Mapping[str, ChatClient]
    provider: UnitProvider | None = None
    transcribe: Transcribe | None = None
    transcriber: str = ""
    again: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def key(self, record: ClipRecord, media: str) -> str:
        """Hash of what the annotation of a clip depends on."""
        endpoints = {
            n: {**a.endpoint.settings(), "url": ""} for n, a in self.clients.items()
        }  # see Asker.key_of
        facts: list[Any] = [
            VERSION,
            media,
            record.id,
            record.label,
            record.labels,
            record.subtitle,
            record.start,
        ]
        facts += [
            record.end,
            record.speaker,
            record.split,
            record.dataset,
            self.recipe.asked(),
            prompt_hashes(),
        ]
        facts += [
            endpoints,
            self.provider.name if self.provider else "",
            self._units_file(record),
            self.transcriber,
        ]
        facts += [self.again.get(record.id, ""), dict(self.recipe.filters).get("votes")]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[
            :24
        ]

    def _units_file(self, record: ClipRecord) -> str:
        file = getattr(self.provider, "file", None)
        found = file(record.path) if file else None
        return media_hash(found) if found else ""

    def annotate(self, record: ClipRecord, media: str = "") -> Annotation:
        """One clip; `media`: its hash, if it is known.

        Raises:
          Unfinished: an endpoint was away or too slow.
          EndpointError, BudgetReached: nothing more can be asked.
        """
        media = media or media_hash(Path(record.path))
        out = Annotation(
            clip=record.id, key=self.key(record, media), path=record.path, media=media, label=record.label, label_from="given" if record.label else "",
            labels=record.labels, start=record.start, end=record.end, speaker=record.speaker,
            split=record.split, dataset=record.dataset, words=" ".join(record.subtitle.split()),
            words_from="given" if record.subtitle.strip() else "",
        )  # fmt: skip
        try:
            track, peak = self._peak(record)
            clip = self._read(record, peak)
        except (ClipError, UnitsError) as error:
            return dataclasses.replace(out, left_out=f"can not be read: {error}")
        table = units.table_named(self.recipe.table)
        seen = peak.all_units if peak else ()
        label, label_from = self._label(record, track, seen)
        if peak and track and label_from == "votes":
            peak = (
                find_peak(track, label, table) or peak
            )  # by the units of the label that was found
        voice = (
            measure_voice(clip.waveform)
            if "audio" in clip.modalities and clip.waveform is not None
            else None
        )
        out = dataclasses.replace(
            out,
            label=label,
            label_from=label_from,
            votes=units.votes(seen, table),
            units=peak.units if peak else (),
            peak_units=peak.all_units if peak else (),
            ever=track.present_anywhere() if track else None,
            peak_index=peak.index if peak else None,
            peak_time=peak.time if peak else None,
            peak_by=peak.by if peak else "",
            units_from=track.source if track else "",
            voice=voice,
            remarks=(*clip.notes, *(track.notes if track else ())),
        )
        if (
            not out.words
            and self.transcribe is not None
            and voice is not None
            and clip.waveform is not None
        ):
            words, _ = self.transcribe(clip.waveform)
            out = dataclasses.replace(out, words=words, words_from="transcribed" if words else "")
        why = self._useless(out)
        if why:  # nothing is asked about a clip that can not be kept
            return dataclasses.replace(out, left_out=why)
        return self._ask(out, clip, peak, track.scale if track else 5.0)

    def _useless(self, found: Annotation) -> str:
        """Why a clip will be left out whatever the agents say, "" if it may stay."""
        if not found.label and self.recipe.label != "model":
            if found.ever is None:
                return "no label: none was given, and no action units were measured"
            best = ", ".join(units.winners(found.peak_units, units.table_named(self.recipe.table)))
            return f"no label: none was given, and the action units speak for {best}, which is not offered"
        votes = dict(self.recipe.filters).get("votes")
        return (
            ""
            if votes is None
            else against_units(found, self.recipe, {**FILTERS["votes"], **votes})
        )

    def _peak(self, record: ClipRecord) -> tuple[UnitTrack | None, Peak | None]:
        track = self.provider(record.path) if self.provider else None
        if track is not None and (record.start is not None or record.end is not None):
            track = track.within(record.start or 0.0, record.end)
        label = record.label if self.recipe.label != "votes" else None
        found = find_peak(track, label, units.table_named(self.recipe.table)) if track else None
        if track is not None and not track.has_face:
            track = None
        if found is None:
            found = find_apex(record.path, start=record.start, end=record.end)
        return track, found

    def _read(self, record: ClipRecord, peak: Peak | None) -> Clip:
        sampling = Sampling(
            image="peak",
            index=peak.index if peak else None,
            temporal="uniform",
            num_frames=max(1, self.recipe.frames),
        )
        clip = read_clip(
            record.path,
            sampling=sampling,
            subtitle=record.subtitle,
            start=record.start,
            end=record.end,
        )
        if clip.image is None and clip.waveform is None:
            raise ClipError("there is neither picture nor sound")
        return clip

    def _label(
        self, record: ClipRecord, track: UnitTrack | None, seen: tuple[int, ...]
    ) -> tuple[str, str]:
        """(label, where it is from); of several labels with as many votes the one whose units are fewest is the most special."""
        if record.label and self.recipe.label == "given":
            return record.label, "given"
        if self.recipe.label == "model" or track is None:
            return "", ""
        table = units.table_named(self.recipe.table)
        best = min(units.winners(seen, table), key=lambda name: (len(table.get(name, ())), name))
        spellings = (best, *units.SPELLINGS.get(best, ()))
        return next(
            (x for x in record.labels if x.lower() in spellings), best if not record.labels else ""
        ), "votes"

    def _ask(self, out: Annotation, clip: Clip, peak: Peak | None, scale: float) -> Annotation:
        frames = None
        if clip.image is not None:
            frames = [
                clip.image,
                *(clip.frames if clip.frames is not None and self.recipe.frames else ()),
            ]
        sound = clip.waveform if "audio" in clip.modalities else None
        known = ClipContext(
            label=out.label if self.recipe.label_guided else "", labels=out.labels or ((out.label,) if out.label else ()), words=out.words,
            peak=peak, scale=scale, frames=frames, sound=sound, remark=self.again.get(out.clip, ""),
        )  # fmt: skip
        notes, authors, faults = dict(out.notes), dict(out.authors), dict(out.faults)
        left_out = ""
        for name in self.recipe.agents:
            who: Agent = agent(name)
            if name not in self.clients:
                faults[name] = "no endpoint was given"
            elif not who.applies(known):
                faults[name] = f"the clip has no {'picture' if who.needs == 'frames' else 'sound'}"
            elif name == "reasoning" and not known.labels:
                faults[name] = "no labels were given"
            else:
                shown = dataclasses.replace(known, notes=self._for_reason(notes, out.clip))
                read = functools.partial(who.read, shown)
                reply: Reply[dict[str, str]] = self.clients[name].ask(
                    who.make(self.recipe, shown), read
                )
                if reply.value is not None:
                    notes[name], authors[name] = reply.value, reply.model
                elif is_retryable(reply.fault):
                    raise Unfinished(
                        f"{name}: {reply.fault}" + (f" ({reply.message})" if reply.message else "")
                    )
                else:
                    faults[name] = reply.fault
            needed = name not in self.recipe.optional and (
                name in self.clients or name == "reasoning"
            )
            if name in faults and needed and not faults[name].startswith("the clip has no"):
                left_out = left_out or f"{name}: {faults[name]}"
                break  # what comes behind would build on nothing
        out = dataclasses.replace(
            out, notes=notes, authors=authors, faults=faults, left_out=left_out
        )
        if self.recipe.label == "model" and "reasoning" in notes:
            out = dataclasses.replace(out, label=notes["reasoning"]["label"], label_from="model")
        return dataclasses.replace(out, coarse=coarse(out) if self.recipe.template else "")

    def _for_reason(
        self, notes: Mapping[str, dict[str, str]], clip: str
    ) -> dict[str, dict[str, str]]:
        """The notes that the reasoning agent reads: of two audio notes those that the recipe says."""
        both = [a for a in ("audio", "audio_2") if a in notes]
        if len(both) < 2 or self.recipe.audio_for_reason == "both":
            return dict(notes)
        place = {"first": 0, "second": 1}.get(
            self.recipe.audio_for_reason, zlib.crc32(clip.encode()) % 2
        )
        return {k: v for k, v in notes.items() if k != both[1 - place]}


def against_units(found: Annotation, recipe: Recipe, settings: Mapping[str, Any]) -> str:
    """Why the label does not agree with the action units, "" if it does: fewer than `least` of its units are present at the peak.
    Neutral and labels that the table does not know agree with everything.
    """
    table = units.table_named(recipe.table)
    if found.ever is None:
        return "no action units were measured" if settings["unmeasured"] == "drop" else ""
    if units.units_of(found.label, table) and len(found.units) < settings["least"]:
        best = ", ".join(units.winners(found.peak_units, table))
        return f"the action units speak for {best}, the label is {found.label}"
    return ""


def coarse(found: Annotation) -> str:
    """MERR's coarse description from a template of our own: what is seen, the face, the voice, the words."""
    parts = []
    if seen := found.notes.get("visual", {}).get("description"):
        parts.append(seen.rstrip(" .") + ".")
    if found.ever is not None:
        face = units.phrases(found.units or found.peak_units)
        parts.append(f"The face shows {_joined(face)}." if face else "The face is at rest.")
    tone = found.notes.get("audio", {})
    if tone.get("tone"):
        parts.append(f"The tone of voice is {tone['tone']}.")
    elif tone.get("description"):
        parts.append(tone["description"].rstrip(" .") + ".")
    if found.words:
        parts.append(f'The person says: "{found.words}".')
    return " ".join(parts)


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
