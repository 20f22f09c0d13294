"""The registry of pretrained parts: one line per family."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from data_pipeline.suggestions import did_you_mean, no_such
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


def release_named(name: str) -> tuple[Family, Release]:
    """A release by its name, or by the name of its repository, with its family.

    Raises:
      ValueError: there is no such release.
    """
    known = {r.name: (f, r) for f in all_families() for r in f.releases}
    by_repo = {r.repo: (f, r) for f, r in known.values() if r.repo}
    if name not in known and name not in by_repo:
        raise ValueError(no_such_part(name))
    return known[name] if name in known else by_repo[name]


def no_such_part(name: str) -> str:
    """`there is no part 'whisper-bse'; did you mean 'whisper-base'? ...`, with eight names at most.

    Args:
      name: what was typed.
    """
    known = [r.name for f in all_families() for r in f.releases]
    hint = did_you_mean(name.removeprefix("hf:"), known)
    some = "" if hint else f"; there are {', '.join(known[:8])} and others"
    return (
        f"there is no part '{name}'{hint or some}{'' if hint else ';'} "
        f"`emojax weights list --parts` lists all {len(known)}"
    )


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


_WHOLE = {"kv_heads": 0, "head_width": 0, "window": 0, "mels": 0} | dict.fromkeys(
    (
        *("vocab", "width", "depth", "heads", "mlp", "size", "patch"),
        *("conv_width", "position_kernel", "position_groups"),
    ),
    1,
)
_POSITIVE = ("eps", "theta", "rope_factor", "rope_low", "rope_high", "rope_original", "seconds")
_LARGEST = 1 << 24


def read_fields(family: Family, raw: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The fields of `config.model.STREAM` that a config.json gives.

    Args:
      family: of the part.
      raw: content of the file.
      part: name of the part, for messages.

    Returns:
      As `Family.read_config`, with values that a model can have.

    Raises:
      ValueError: an option is not supported, or a value is missing, damaged or impossible.
    """
    start = f"{part} cannot be a part of emojax"
    try:
        if quantized := raw.get("quantization_config"):
            method = dict(quantized).get("quant_method", "an unknown method")
            raise ValueError(
                f"its tensors are quantized by {method}, which cannot be read: fetch the original"
            )
        fields = family.read_config(raw)
    except ValueError as error:
        raise ValueError(f"{start}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{start}: its config.json is damaged ({why})") from error
    for name, value in fields.items():
        if fault := _impossible(name, value):
            raise ValueError(f"{start}: {name} is {value!r}, but it must be {fault}")
    if not fields.get("head_width") and fields.get("width", 0) % fields.get("heads", 1):
        raise ValueError(
            f"{start}: a width of {fields['width']} cannot be divided into {fields['heads']} heads"
        )
    return fields


def _impossible(name: str, value: Any) -> str:
    """What a value must be, where it is something else; "" for a possible one."""
    if name in _WHOLE:
        whole = isinstance(value, int) and not isinstance(value, bool)
        inside = whole and _WHOLE[name] <= value <= _LARGEST
        return "" if inside else f"a whole number from {_WHOLE[name]} to {_LARGEST:,}"
    if name in _POSITIVE:
        return "" if _numbers([value], above=0) else "a finite number above 0"
    if name in ("mean", "std"):
        good = len(tuple(value)) in (0, 3) and _numbers(value, above=0 if name == "std" else None)
        return "" if good else "three finite numbers" + (" above 0" if name == "std" else "")
    return ""


def _numbers(values: Iterable[Any], *, above: float | None) -> bool:
    return all(
        isinstance(x, int | float)
        and not isinstance(x, bool)
        and math.isfinite(x)
        and (above is None or x > above)
        for x in values
    )


def tree_name(family: Family, stream: str) -> str:
    """Name of an encoder in the parameter tree: `eva_image`, `whisper`."""
    return f"{family.name}_{stream}" if family.kind == "picture" else family.name
