"""The registry of pretrained parts: one line per family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_pipeline.suggestions import no_such
from emojax.model.encoders import (
    clip_vision,
    dinov2,
    eva,
    face_api,
    hubert,
    siglip,
    vit,
    wav2vec2,
    wavlm,
    whisper,
)
from emojax.model.lm import llama2, llama3, mistral, qwen2, qwen3, smollm2
from emojax.model.lm.families import LanguageFamily
from emojax.model.part import Family, Kind, Release

ENCODERS: dict[str, Family] = {
    family.name: family
    for family in (
        eva.FAMILY,
        clip_vision.FAMILY,
        siglip.FAMILY,
        dinov2.FAMILY,
        dinov2.WITH_REGISTERS,
        vit.FAMILY,
        whisper.FAMILY,
        hubert.FAMILY,
        wav2vec2.FAMILY,
        wavlm.FAMILY,
        face_api.FAMILY,
    )
}
# Families that share a `model_type` come before the one that takes all others of it.
LANGUAGE_MODELS: dict[str, LanguageFamily] = {
    family.name: family
    for family in (
        llama3.FAMILY,
        smollm2.FAMILY,
        llama2.FAMILY,
        mistral.FAMILY,
        qwen2.FAMILY,
        qwen3.FAMILY,
    )
}


def all_families() -> tuple[Family, ...]:
    """Encoders, then language models."""
    return (*ENCODERS.values(), *LANGUAGE_MODELS.values())


def family_named(name: str) -> Family:
    """A family by its name.

    Raises:
      ValueError: there is no such family.
    """
    known = {f.name: f for f in all_families()}
    if name not in known:
        raise ValueError(no_such("family", name, known))
    return known[name]


def release_named(name: str) -> tuple[Family, Release]:
    """A release by its name, or by the name of its repository, with its family.

    Raises:
      ValueError: there is no such release.
    """
    known = {r.name: (f, r) for f in all_families() for r in f.releases}
    by_repo = {r.repo: (f, r) for f, r in known.values() if r.repo}
    if name not in known and name not in by_repo:
        raise ValueError(no_such("part", name, known))
    return known[name] if name in known else by_repo[name]


def family_of_config(raw: Mapping[str, Any], *, kind: Kind | None = None) -> Family:
    """The family of a config.json of transformers.

    Args:
      raw: content of the file.
      kind: only families of this kind; None: any.

    Returns:
      The first family whose `model_types` has the file's `model_type` and that it `matches`.

    Raises:
      ValueError: the file names no model type, or one that no family has.
    """
    families = [f for f in all_families() if kind in (None, f.kind)]
    known = sorted({t for f in families for t in f.model_types})
    model_type = str(raw.get("model_type", ""))
    if not model_type:
        raise ValueError("config.json has no model_type: it is not of a model of transformers")
    for family in families:
        if model_type in family.model_types and family.matches(raw):
            return family
    raise ValueError(no_such("model type", model_type, known))


def tree_name(family: Family, stream: str) -> str:
    """Name of an encoder in the parameter tree: `eva_image`, `whisper`."""
    return f"{family.name}_{stream}" if family.kind == "picture" else family.name
