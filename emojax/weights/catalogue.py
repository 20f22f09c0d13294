"""The catalogue: which files each source publishes, and which sources make which model.

Sizes are those of the published files. A file without a published checksum is compared with its
first download (fetch.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from data_pipeline.suggestions import nearest, no_such
from emojax.model.build import ModelConfig
from emojax.model.emotion import EmotionConfig
from emojax.model.emotion_v1 import EmotionV1Config
from emojax.model.encoders.eva import eva_tables
from emojax.model.encoders.hubert import hubert_tables
from emojax.model.encoders.mae import MAE_TABLES
from emojax.model.encoders.videomae import VIDEOMAE_TABLES
from emojax.model.encoders.whisper import whisper_tables
from emojax.model.lm.families import decoder_table
from emojax.model.parts import all_families
from emojax.model.weight_rules import Table
from emojax.weights import tables

Spellings = tuple[Table, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Files of one project that fill parts of our models.

    Attributes:
      title: for people.
      licence: its name.
      fills: configuration -> weight tables on our whole tree, each in all its spellings.
      repo: Hugging Face repository; "" when there is none.
      files: their names in the repository.
      url: address when they are not in a repository.
      mirror: another repository with the same files.
      by_hand: where a person gets them, when no program can download them.
      size: bytes of all files; None when unknown.
      gated: whether access must be requested with an account.
      instead_of: key of the source that this one may replace.
      sha256: (file, checksum) where published.
    """

    title: str
    licence: str
    fills: Callable[[ModelConfig], list[Spellings]]
    repo: str = ""
    files: tuple[str, ...] = ()
    url: str = ""
    mirror: str = ""
    by_hand: str = ""
    size: int | None = None
    gated: bool = False
    instead_of: str = ""
    sha256: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model made of sources.

    Attributes:
      title: for people.
      preset: its configuration.
      sources: keys of SOURCES; later ones replace tensors of earlier ones.
      fields: (field, value) of the configuration that differ for inference with released weights.
      starts: (regular expression on the path, reason): leaves that no source fills and that keep
        their initialisation.
      labels: the labels it chooses from by default.
    """

    title: str
    preset: str
    sources: tuple[str, ...]
    fields: tuple[tuple[str, str], ...] = (
        ("data.layout", "released_eval"),
        ("data.image_choice", "first"),
    )
    starts: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = (
        "happy",
        "sad",
        "neutral",
        "angry",
        "worried",
        "surprise",
        "fear",
        "contempt",
        "doubt",
    )


def _under(spellings: Spellings, tree: str) -> Spellings:
    return tuple(table.under("", tree) for table in spellings)


def _llama(config: ModelConfig) -> list[Spellings]:
    return [_under((decoder_table(config.llama),), "params/llama/")]


def _eva(config: ModelConfig) -> list[Spellings]:
    filled = [_under(eva_tables(config.image), "params/eva_image/")]
    if isinstance(config, EmotionConfig):
        filled.append(_under(eva_tables(config.video), "params/eva_video/"))
    return filled


def _whisper(config: ModelConfig) -> list[Spellings]:
    del config
    return [_under(whisper_tables(), "params/whisper/")]


def _hubert(config: ModelConfig) -> list[Spellings]:
    if not isinstance(config, EmotionV1Config):
        return []  # v2 uses Whisper
    return [_under(hubert_tables(config.audio), "params/hubert/")]


def projections(config: ModelConfig) -> tuple[str, ...]:
    """Projections of LLaMA that have adapters."""
    return tuple(p for p in (*"qkvo", *tables.MLP) if config.llama.lora.covers(p))


def stage_table(config: ModelConfig) -> Table:
    """The table of a stage checkpoint of the model's own project: the trainable parameters."""
    if isinstance(config, EmotionConfig):
        return tables.emotion_llama_v2(projections=projections(config), blocks=config.fusion.blocks)
    return tables.emotion_llama_v1(projections(config))


def _stage(config: ModelConfig) -> list[Spellings]:
    return [(stage_table(config),)]


_FACES = (
    "trained by the authors on faces of MER2023, distributed with the feature extraction code of "
    "Emotion-LLaMA"
)
SOURCES: dict[str, Source] = {
    "llama-2-7b-chat": Source(
        title="LLaMA-2-7B chat (Meta), with its tokenizer",
        licence="Llama 2 Community License",
        fills=_llama,
        repo="meta-llama/Llama-2-7b-chat-hf",
        files=(
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "tokenizer.model",
            "tokenizer_config.json",
        ),
        mirror="NousResearch/Llama-2-7b-chat-hf",
        size=13_476_900_000,
        gated=True,
    ),
    "eva-vit-g": Source(
        title="EVA-CLIP ViT-G/14, as BLIP-2 uses it",
        licence="MIT (EVA), BSD-3-Clause (LAVIS)",
        fills=_eva,
        files=("eva_vit_g.pth",),
        url="https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/"
        "eva_vit_g.pth",
        size=2_025_200_000,
    ),
    "whisper-large-v3": Source(
        title="Whisper large v3 (OpenAI); only the encoder is used",
        licence="Apache-2.0",
        fills=_whisper,
        repo="openai/whisper-large-v3",
        files=("model.safetensors",),
        size=3_087_000_000,
    ),
    "chinese-hubert-large": Source(
        title="HuBERT large, Chinese (TencentGameMate)",
        licence="MIT",
        fills=_hubert,
        repo="TencentGameMate/chinese-hubert-large",
        files=("pytorch_model.bin",),
        size=1_270_000_000,
    ),
    "mae-faces": Source(
        title="MAE ViT-L on faces (Emotion-LLaMA)",
        licence="research only, with MER2023",
        fills=lambda _: [_under(MAE_TABLES, "params/mae/")],
        by_hand=_FACES,
    ),
    "videomae-faces": Source(
        title="VideoMAE ViT-L on faces (Emotion-LLaMA)",
        licence="research only, with MER2023",
        fills=lambda _: [_under(VIDEOMAE_TABLES, "params/videomae/")],
        by_hand=_FACES,
    ),
    "mae-large": Source(
        title="MAE ViT-L (Meta), in place of the one on faces; scores differ",
        licence="Apache-2.0",
        fills=lambda _: [_under(MAE_TABLES, "params/mae/")],
        repo="facebook/vit-mae-large",
        instead_of="mae-faces",
        files=("pytorch_model.bin",),
        size=1_320_000_000,
    ),
    "videomae-large": Source(
        title="VideoMAE ViT-L (MCG-NJU), in place of the one on faces; scores differ",
        licence="CC-BY-NC-4.0",
        fills=lambda _: [_under(VIDEOMAE_TABLES, "params/videomae/")],
        repo="MCG-NJU/videomae-large",
        instead_of="videomae-faces",
        files=("pytorch_model.bin",),
        size=1_370_000_000,
    ),
    "minigpt-v2": Source(
        title="MiniGPT-v2 checkpoint: the start of stage 1 of both models",
        licence="BSD-3-Clause, Llama 2 Community License",
        fills=lambda config: [(tables.minigpt_v2(projections(config)),)],
        files=("minigptv2_checkpoint.pth",),
        by_hand="the README of Vision-CAIR/MiniGPT-4 links it (online developing model)",
    ),
    "emotion-llama": Source(
        title="Emotion-LLaMA, the demo's checkpoint (reasons; F1 0.81 on MER2023)",
        licence="BSD-3-Clause, Llama 2 Community License; data research only",
        fills=_stage,
        files=("Emoation_LLaMA.pth",),
        by_hand="the README of ZebangCheng/Emotion-LLaMA links it "
        "(Drive 1pNngqXdc3cKr9uLNW-Hu3SKvOpjzfzGY)",
    ),
    "emotion-llama-mer2023": Source(
        title="Emotion-LLaMA, the checkpoint of MER2023 (labels only; F1 0.9036)",
        licence="BSD-3-Clause, Llama 2 Community License; data research only",
        fills=_stage,
        files=("checkpoint_best.pth",),
        by_hand="the README of ZebangCheng/Emotion-LLaMA links it "
        "(Drive 1NoPZDj5_392zBtVK1IHO8bepA4910iI_)",
    ),
    "peft-adapter": Source(
        title="a LoRA adapter folder of PEFT, applied over the model's own sources",
        licence="that of the adapter",
        fills=lambda config: [(tables.peft_adapter(projections(config)),)],
        by_hand="give it with --file",
    ),
    "emotion-llama-v2": Source(
        title="Emotion-LLaMAv2, checkpoint of stage 2",
        licence="BSD-3-Clause, Llama 2 Community License; data under its own terms",
        fills=_stage,
        repo="ooochen/Emotion-LLaMA-v2",
        files=("stage2/checkpoint_9.pth",),
    ),
    "emotion-llama-v2-stage1": Source(
        title="Emotion-LLaMAv2, checkpoint of stage 1",
        licence="BSD-3-Clause, Llama 2 Community License; data under its own terms",
        fills=_stage,
        repo="ooochen/Emotion-LLaMA-v2",
        files=("stage1/checkpoint_9.pth",),
    ),
}

_LN_VISION = (
    r"params/ln_vision/.*",
    "frozen at ones and zeros in the originals, which do not save it",
)
_NEW = r"params/(fusion|project_(video|audio|fusion))/.*"
_V2 = ("llama-2-7b-chat", "eva-vit-g", "whisper-large-v3")
_V1 = ("llama-2-7b-chat", "eva-vit-g", "mae-faces", "videomae-faces", "chinese-hubert-large")

_FACE_TOWERS = r"params/(mae|videomae)/.*"

MODELS: dict[str, Model] = {
    "emotion-llama-v2": Model(
        title="Emotion-LLaMAv2",
        preset="v2",
        sources=(*_V2, "emotion-llama-v2"),
        starts=(_LN_VISION,),
    ),
    "emotion-llama-v2-stage1": Model(
        title="Emotion-LLaMAv2 after perception",
        preset="v2:stage1",
        sources=(*_V2, "emotion-llama-v2-stage1"),
        starts=(_LN_VISION,),
    ),
    "emotion-llama-v2-start": Model(
        title="the starting point of stage 1 of Emotion-LLaMAv2",
        preset="v2:stage1",
        sources=(*_V2, "minigpt-v2"),
        fields=(),
        starts=(_LN_VISION, (_NEW, "new in Emotion-LLaMAv2, trained from random initialisation")),
    ),
    "emotion-llama": Model(
        title="Emotion-LLaMA", preset="v1", sources=(*_V1, "emotion-llama"), starts=(_LN_VISION,)
    ),
    "emotion-llama-demo": Model(
        title="Emotion-LLaMA as its released demo runs it: zeros instead of MAE and VideoMAE",
        preset="v1",
        sources=("llama-2-7b-chat", "eva-vit-g", "chinese-hubert-large", "emotion-llama"),
        fields=(("data.layout", "released_demo"), ("data.image_choice", "first")),
        starts=(_LN_VISION, (_FACE_TOWERS, "the demo does not run them")),
    ),
    "emotion-llama-mer2023": Model(
        title="Emotion-LLaMA, labels of MER2023",
        preset="v1:labels",
        sources=(*_V1, "emotion-llama-mer2023"),
        starts=(_LN_VISION,),
    ),
}


def catalogue_model(name: str) -> Model:
    """A model of the catalogue.

    Raises:
      ValueError: there is no model of this name.
    """
    if name not in MODELS:
        raise ValueError(no_such_model(name))
    return MODELS[name]


def no_such_model(name: str) -> str:
    """`there is no model 'x'; did you mean 'y'?`; names of parts are suggested, too.

    Args:
      name: what was typed.
    """
    parts = [r.name for f in all_families() for r in f.releases]
    near = nearest(name, [*MODELS, *parts])
    if not near or near in MODELS:
        return no_such("model", name, MODELS)
    return (
        f"there is no model or part '{name}'; did you mean '{near}'? `emojax weights list` lists "
        "the models, `emojax weights list --parts` the parts"
    )


def describe_source(source: Source) -> str:
    """One line: address, size, access, licence."""
    size = f", {source.size / 1e9:.1f} GB" if source.size else ""
    gated = ", gated: ask for access first" if source.gated else ""
    address = source.repo or source.url or f"by hand: {source.by_hand}"
    return f"{address}{size}{gated} ({source.licence})"
