"""Annotates one clip: action units and peak, label, replies of the agents, coarse template."""

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
from data_pipeline.annotate.agents import AgentReply, ClipContext, agent
from data_pipeline.annotate.annotation import VERSION, Annotation
from data_pipeline.annotate.peaks import Peak, find_apex, find_peak
from data_pipeline.annotate.recipe import FILTER_DEFAULTS, Recipe, prompt_hashes
from data_pipeline.annotate.unit_tracks import UnitProvider, UnitsError, UnitTrack
from data_pipeline.io import file_sha256
from data_pipeline.llm.client import ChatClient, Reply, is_retryable
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.container import ClipError
from data_pipeline.media.prosody import measure_voice
from data_pipeline.schema import Clip, ClipRecord

Transcribe = Callable[[np.ndarray], tuple[str, str]]  # float32[n] at 16 kHz -> (words, language)


class Unfinished(Exception):
    """An endpoint gave no reply, so the next run asks again; the message says which and why."""


def media_hash(path: Path) -> str:
    """Returns the first 24 hex digits of a file's SHA-256.

    Raises:
      OSError: the file cannot be read.
    """
    return file_sha256(path)[:24]


@dataclasses.dataclass(kw_only=True)
class Annotator:
    """Annotates clips by one recipe.

    Attributes:
      recipe: agents, label source and filters.
      clients: by agent; one client may serve several agents.
      provider: of action units, None for none.
      transcribe: transcribes clips without a transcript, None for none.
      transcriber: identifies `transcribe`.
      sent_back: remarks of annotators on clips to ask again, by clip; the prompts quote them.
    """

    recipe: Recipe
    clients: Mapping[str, ChatClient]
    provider: UnitProvider | None = None
    transcribe: Transcribe | None = None
    transcriber: str = ""
    sent_back: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def table(self) -> units.Table:
        """The recipe's table of action units."""
        return units.get_table(self.recipe.table)

    def key(self, record: ClipRecord, media: str) -> str:
        """Returns the hash of everything that the annotation of a clip depends on."""
        # The address is left out: the same model may be served from another one later.
        endpoints = {n: {**c.endpoint.settings(), "url": ""} for n, c in self.clients.items()}
        facts: list[Any] = [VERSION, media, record.id, record.label, record.labels]
        facts += [record.subtitle, record.start, record.end, record.speaker, record.split]
        facts += [record.dataset, self.recipe.request_settings(), prompt_hashes(), endpoints]
        facts += [self.provider.name if self.provider else "", self._hash_of_units(record)]
        facts += [self.transcriber, self.sent_back.get(record.id, "")]
        facts += [dict(self.recipe.filters).get("votes")]
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _hash_of_units(self, record: ClipRecord) -> str:
        file_of = getattr(self.provider, "file", None)
        file = file_of(record.path) if file_of else None
        return media_hash(file) if file else ""

    def annotate(self, record: ClipRecord, *, media: str = "") -> Annotation:
        """Annotates one clip.

        Args:
          record: the clip.
          media: hash of its file, "" to compute it.

        Raises:
          Unfinished: an endpoint was unreachable or too slow.
          EndpointError: an endpoint refuses every request.
          BudgetReached: the next request might exceed the budget.
          Halted: the run is being stopped.
          OSError: the media file or its file of action units cannot be read.
        """
        out = self._from_record(record, media or media_hash(Path(record.path)))
        try:
            track, peak = self._peak(record)
            clip = self._read(record, peak)
        except (ClipError, UnitsError) as error:
            return dataclasses.replace(out, left_out=f"cannot be read: {error}")
        active = peak.all_units if peak else ()
        label, label_from = self._label(record, track, active)
        if peak and track and label_from == "votes":
            peak = find_peak(track, label, self.table) or peak  # now that the label is known
        sound = clip.waveform if "audio" in clip.modalities else None
        out = dataclasses.replace(
            out,
            label=label,
            label_from=label_from,
            votes=units.count_votes(active, self.table),
            units=peak.units if peak else (),
            peak_units=peak.all_units if peak else (),
            ever=track.present_anywhere() if track else None,
            peak_index=peak.index if peak else None,
            peak_time=peak.time if peak else None,
            peak_by=peak.by if peak else "",
            units_from=track.source if track else "",
            voice=measure_voice(sound) if sound is not None else None,
            remarks=(*clip.notes, *(track.notes if track else ())),
        )
        if not out.words and self.transcribe is not None and sound is not None:
            words, _ = self.transcribe(sound)
            out = dataclasses.replace(out, words=words, words_from="transcribed" if words else "")
        why = self._unusable(out)
        if why:  # no agent is asked about a clip that will be left out
            return dataclasses.replace(out, left_out=why)
        return self._ask(out, clip, peak, track.scale if track else 5.0)

    def _from_record(self, record: ClipRecord, media: str) -> Annotation:
        return Annotation(
            clip=record.id,
            key=self.key(record, media),
            path=record.path,
            media=media,
            label=record.label,
            label_from="given" if record.label else "",
            labels=record.labels,
            start=record.start,
            end=record.end,
            speaker=record.speaker,
            split=record.split,
            dataset=record.dataset,
            words=" ".join(record.subtitle.split()),
            words_from="given" if record.subtitle.strip() else "",
        )

    def _unusable(self, annotation: Annotation) -> str:
        """Returns why a clip is left out whatever the agents reply, "" if it may be kept."""
        if not annotation.label and self.recipe.label != "model":
            if annotation.ever is None:
                return "no label: none was given, and no action units were measured"
            best = ", ".join(units.winners(annotation.peak_units, self.table))
            return (
                f"no label: none was given, and the action units speak for {best}, "
                "which is not offered"
            )
        votes = dict(self.recipe.filters).get("votes")
        if votes is None:
            return ""
        return label_conflict(annotation, self.recipe, {**FILTER_DEFAULTS["votes"], **votes})

    def _peak(self, record: ClipRecord) -> tuple[UnitTrack | None, Peak | None]:
        track = self.provider(record.path) if self.provider else None
        if track is not None and (record.start is not None or record.end is not None):
            track = track.within(record.start or 0.0, record.end)
        label = record.label if self.recipe.label != "votes" else None
        peak = find_peak(track, label, self.table) if track else None
        if track is not None and not track.has_face:
            track = None
        if peak is None:
            peak = find_apex(record.path, start=record.start, end=record.end)
        return track, peak

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
        self, record: ClipRecord, track: UnitTrack | None, active: tuple[int, ...]
    ) -> tuple[str, str]:
        """Returns (label, where it is from); among tied votes the label with the fewest units."""
        if record.label and self.recipe.label == "given":
            return record.label, "given"
        if self.recipe.label == "model" or track is None:
            return "", ""
        table = self.table
        best = min(units.winners(active, table), key=lambda name: (len(table.get(name, ())), name))
        spellings = (best, *units.SPELLINGS.get(best, ()))
        offered = (x for x in record.labels if x.lower() in spellings)
        return next(offered, best if not record.labels else ""), "votes"

    def _context(self, out: Annotation, clip: Clip, peak: Peak | None, scale: float) -> ClipContext:
        frames = None
        if clip.image is not None:
            others = clip.frames if clip.frames is not None and self.recipe.frames else ()
            frames = [clip.image, *others]
        return ClipContext(
            label=out.label if self.recipe.label_guided else "",
            labels=out.labels or ((out.label,) if out.label else ()),
            words=out.words,
            peak=peak,
            scale=scale,
            frames=frames,
            sound=clip.waveform if "audio" in clip.modalities else None,
            remark=self.sent_back.get(out.clip, ""),
        )

    def _ask(self, out: Annotation, clip: Clip, peak: Peak | None, scale: float) -> Annotation:
        """Asks the agents in turn, until one that is required has no usable reply."""
        context = self._context(out, clip, peak, scale)
        notes, authors, faults = dict(out.notes), dict(out.authors), dict(out.faults)
        left_out = ""
        for name in self.recipe.agents:
            selected = dataclasses.replace(context, notes=self._select_notes(notes, out.clip))
            reply, fault = self._ask_agent(name, selected)
            if reply is not None:
                assert reply.value is not None
                notes[name], authors[name] = reply.value, reply.model
                continue
            faults[name] = fault
            required = name not in self.recipe.optional and (
                name in self.clients or name == "reasoning"
            )
            if required and not fault.startswith("the clip has no"):
                left_out = f"{name}: {fault}"
                break  # the agents after it would lack its reply
        out = dataclasses.replace(
            out, notes=notes, authors=authors, faults=faults, left_out=left_out
        )
        if self.recipe.label == "model" and "reasoning" in notes:
            out = dataclasses.replace(out, label=notes["reasoning"]["label"], label_from="model")
        return dataclasses.replace(
            out, coarse=coarse_description(out) if self.recipe.template else ""
        )

    def _ask_agent(self, name: str, context: ClipContext) -> tuple[Reply[AgentReply] | None, str]:
        """Returns (usable reply, "") or (None, why there is none).

        Raises:
          Unfinished: the next run may get a reply.
        """
        who = agent(name)
        if name not in self.clients:
            return None, "no endpoint was given"
        if not who.applies(context):
            return None, f"the clip has no {'picture' if who.needs == 'frames' else 'sound'}"
        if name == "reasoning" and not context.labels:
            return None, "no labels were given"
        read = functools.partial(who.read, context)
        reply: Reply[AgentReply] = self.clients[name].ask(who.make(self.recipe, context), read)
        if reply.value is not None:
            return reply, ""
        if is_retryable(reply.fault):
            raise Unfinished(f"{name}: {reply.explanation}")
        return None, reply.fault

    def _select_notes(self, notes: Mapping[str, AgentReply], clip: str) -> Mapping[str, AgentReply]:
        """Of two audio notes keeps those that the reasoning agent of this recipe reads."""
        both = [a for a in ("audio", "audio_2") if a in notes]
        if len(both) < 2 or self.recipe.audio_for_reason == "both":
            return dict(notes)
        drawn = zlib.crc32(clip.encode()) % 2
        kept = {"first": 0, "second": 1}.get(self.recipe.audio_for_reason, drawn)
        return {k: v for k, v in notes.items() if k != both[1 - kept]}


def label_conflict(annotation: Annotation, recipe: Recipe, settings: Mapping[str, Any]) -> str:
    """Returns why the label disagrees with the action units at the peak, "" if it agrees.

    Neutral and labels that the table does not list agree with everything.

    Args:
      annotation: of one clip.
      recipe: names the table of action units.
      settings: of the filter `votes`; `least` units of the label must be present.
    """
    table = units.get_table(recipe.table)
    if annotation.ever is None:
        return "no action units were measured" if settings["unmeasured"] == "drop" else ""
    if units.units_of(annotation.label, table) and len(annotation.units) < settings["least"]:
        best = ", ".join(units.winners(annotation.peak_units, table))
        return f"the action units speak for {best}, the label is {annotation.label}"
    return ""


def coarse_description(annotation: Annotation) -> str:
    """Fills our template of MERR's coarse description: picture, face, voice, words."""
    parts = []
    if picture := annotation.notes.get("visual", {}).get("description"):
        parts.append(picture.rstrip(" .") + ".")
    if annotation.ever is not None:
        face = units.unit_phrases(annotation.units or annotation.peak_units)
        parts.append(f"The face shows {_join(face)}." if face else "The face is at rest.")
    voice = annotation.notes.get("audio", {})
    if voice.get("tone"):
        parts.append(f"The tone of voice is {voice['tone']}.")
    elif voice.get("description"):
        parts.append(voice["description"].rstrip(" .") + ".")
    if annotation.words:
        parts.append(f'The person says: "{annotation.words}".')
    return " ".join(parts)


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
