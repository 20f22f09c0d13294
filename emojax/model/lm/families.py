"""What all families of language models share: one decoder, one table of names, one config.json.

A family's own file (qwen2.py, ...) has its releases, its options and how its turns are written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from emojax.model.lm.llama import Llama, LlamaConfig, RopeScaling
from emojax.model.part import Family, Release, check_options
from emojax.model.weight_rules import Table, flatten, linear, norm, rule

# Projection -> the part of a layer that transformers puts it in.
LINEARS = dict.fromkeys(("q", "k", "v", "o"), "self_attn") | dict.fromkeys(
    ("gate", "up", "down"), "mlp"
)
_SIZES = {
    "vocab": "vocab_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageFamily(Family):
    """A family of language models.

    Attributes:
      end_tokens: tokens that end an answer; the first one ends the answers of training.
      turn: what stands before and after a question, where the tokenizer has no chat template.
      facts: content of config.json beyond the sizes, for exports.
    """

    end_tokens: tuple[str, ...]
    turn: tuple[str, str]
    facts: Mapping[str, Any]


def language_family(
    name: str,
    title: str,
    releases: tuple[Release, ...],
    *,
    model_type: str,
    end_tokens: tuple[str, ...],
    turn: tuple[str, str],
    facts: Mapping[str, Any],
    matches: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    own: Mapping[str, Any] | None = None,
) -> LanguageFamily:
    """A family of the one decoder.

    Args:
      name: as of `Family`.
      title: as of `Family`.
      releases: as of `Family`.
      model_type: `model_type` of its config.json.
      end_tokens: as of `LanguageFamily`.
      turn: as of `LanguageFamily`.
      facts: as of `LanguageFamily`.
      matches: as of `Family`.
      own: fields that all its models have and config.json does not name.
    """
    return LanguageFamily(
        name=name,
        title=title,
        kind="language",
        model_types=(model_type,),
        releases=releases,
        read_config=lambda given: decoder_fields(given) | {"family": name, **(own or {})},
        make=make_decoder,
        module=Llama,
        tables=lambda config: (decoder_table(config),),
        end_tokens=end_tokens,
        turn=turn,
        facts={"model_type": model_type, **facts},
        matches=matches,
    )


def decoder_table(config: LlamaConfig) -> Table:
    """The tensors of a decoder under the names of transformers.

    Args:
      config: its sizes and options.
    """
    layer = "model.layers.{i}"
    ignored = [
        (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "a constant of older transformers")
    ]
    if config.tied:
        ignored.append((r"lm_head\.weight", "the output head is the embedding table"))
    return Table(
        "language model (transformers)",
        flatten(
            [
                rule("model.embed_tokens.weight", "embed"),
                norm("model.norm", "norm", bias=False),
                [] if config.tied else linear("lm_head", "head", bias=False),
                *(
                    linear(
                        f"{layer}.{part}.{p}_proj",
                        f"blocks/{p}",
                        bias=config.qkv_bias and p in ("q", "k", "v"),
                    )
                    for p, part in LINEARS.items()
                ),
                *(
                    norm(f"{layer}.self_attn.{p}_norm", f"blocks/{p}_norm", bias=False)
                    for p in ("q", "k")
                    if config.qk_norm
                ),
                norm(f"{layer}.input_layernorm", "blocks/norm1", bias=False),
                norm(f"{layer}.post_attention_layernorm", "blocks/norm2", bias=False),
            ]
        ),
        tuple(ignored),
    )


def make_decoder(fields: Any, **shared: Any) -> LlamaConfig:
    """The decoder's configuration.

    Args:
      fields: `config.model.llama`.
      **shared: other fields of LlamaConfig: adapters, number formats, recomputation.
    """
    names = {f.name for f in dataclasses.fields(LlamaConfig)} & set(vars(fields))
    scaling = RopeScaling(
        kind=fields.rope_scaling,
        factor=fields.rope_factor,
        low=fields.rope_low,
        high=fields.rope_high,
        original=fields.rope_original,
    )
    own = {name: getattr(fields, name) for name in names - set(shared)}
    return LlamaConfig(**own, rope=scaling, **shared)


def decoder_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a config.json of transformers -> fields of `config.model.llama`.

    Raises:
      ValueError: a size is missing, or an option has a value that the decoder does not have.
    """
    check_options(
        given,
        "language models",
        hidden_act=("silu",),
        attention_bias=(False, None),
        mlp_bias=(False, None),
        use_sliding_window=(False, None),
        partial_rotary_factor=(1.0, None),
        pretraining_tp=(1, None),
    )
    missing = [name for name in _SIZES.values() if given.get(name) is None]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    fields = {field: given[name] for field, name in _SIZES.items()}
    tied = given.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise ValueError(f"tie_word_embeddings is {tied!r}, but it must be true or false")
    return fields | {
        "kv_heads": _given(given, "num_key_value_heads", fields["heads"]),
        "head_width": _given(given, "head_dim", 0),
        "eps": _given(given, "rms_norm_eps", 1e-6),
        "tied": tied,
        "window": _given(given, "sliding_window", 0),
        **_rope_fields(given),
    }


def _given(given: Mapping[str, Any], name: str, default: Any) -> Any:
    """A value, or its default where it is missing or null."""
    value = given.get(name)
    return default if value is None else value


def _rope_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Theta and scaling; transformers 5 writes both into `rope_parameters`."""
    rope = {**(given.get("rope_scaling") or {}), **(given.get("rope_parameters") or {})}
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    fields: dict[str, Any] = {
        "theta": _given(rope, "rope_theta", _given(given, "rope_theta", 10_000.0)),
        "rope_scaling": {"default": "none"}.get(kind, kind),
    }
    if kind == "default":
        return fields
    if kind not in ("linear", "llama3"):
        raise ValueError(f"rope_type is '{kind}'; default, linear and llama3 are supported")
    names = {"rope_factor": "factor"}
    if kind == "llama3":
        names |= {
            "rope_low": "low_freq_factor",
            "rope_high": "high_freq_factor",
            "rope_original": "original_max_position_embeddings",
        }
    if missing := [name for name in names.values() if name not in rope]:
        raise ValueError(f"rope_scaling of type {kind} has no {missing[0]}")
    return fields | {field: rope[name] for field, name in names.items()}


def write_config(family: LanguageFamily, config: LlamaConfig, *, dtype: str) -> dict[str, Any]:
    """The config.json of transformers for a decoder; the inverse of `decoder_fields`.

    Args:
      family: of the model.
      config: its sizes.
      dtype: of the exported tensors.
    """
    rope: dict[str, Any] = {"rope_theta": config.theta, "rope_type": "default"}
    if config.rope.kind != "none":
        rope |= {"rope_type": config.rope.kind, "factor": config.rope.factor}
    if config.rope.kind == "llama3":
        rope |= {
            "low_freq_factor": config.rope.low,
            "high_freq_factor": config.rope.high,
            "original_max_position_embeddings": config.rope.original,
        }
    return {
        **family.facts,
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.mlp,
        "rms_norm_eps": config.eps,
        "rope_theta": config.theta,
        "rope_parameters": rope,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tied,
        "dtype": dtype,
    }


def language_release(name: str, repo: str, licence: str, **fields: Any) -> Release:
    """A release of a language model; keywords that are not fields of Release are its sizes."""
    own = {k: fields.pop(k) for k in ("size", "gated", "mirror") if k in fields}
    return Release(name=name, repo=repo, licence=licence, fields=fields, **own)
