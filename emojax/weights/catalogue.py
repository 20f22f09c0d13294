"""What can be fetched and imported: the files of each source, and which sources make which model.

Sizes are of the files as published; None where they are not known. A checksum that is not known is the first one seen (`emojax.weights.fetch`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from emojax.model.build import ModelConfig
from emojax.model.emotion import EmotionConfig
from emojax.model.emotion_v1 import EmotionV1Config
from emojax.weights import tables
from emojax.weights.rules import Table

Spellings = tuple[Table, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Files of one project that fill parts of our models.

    Attributes:
      title: what it is.
      repo: Hugging Face repository, "" where there is none. files: their names there. url: where else they are.
      mirror: another repository with the same files. by_hand: who gives them out, where no program can fetch them.
      size: bytes of all files. licence: its name. gated: must be asked for with an account.
      fills: configuration -> tables on our whole tree, each in all its spellings.
      sha256: {file: checksum} where published. instead_of: the source in whose place it may be given.
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
      title: what it is. preset: its configuration. sources: keys of SOURCES, later ones over earlier ones.
      fields: fields of the configuration that differ when released weights answer.
      starts: (regular expression on the tree path, why): leaves that no source fills and that keep their start.
      labels: what it chooses from by default.
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
    del config
    return [_under((tables.LLAMA,), "params/llama/")]


def _eva(config: ModelConfig) -> list[Spellings]:
    filled = [
        _under(
            (tables.eva(config.image.encoder.depth, config.image.final_norm),), "params/eva_image/"
        )
    ]
    if isinstance(config, EmotionConfig):
        filled.append(
            _under(
                (tables.eva(config.video.encoder.depth, config.video.final_norm),),
                "params/eva_video/",
            )
        )
    return filled


def _whisper(config: ModelConfig) -> list[Spellings]:
    del config
    return [_under((tables.whisper(), tables.whisper("")), "params/whisper/")]


def _hubert(config: ModelConfig) -> list[Spellings]:
    if not isinstance(config, EmotionV1Config):
        return []  # v2 hears through Whisper
    c = config.audio
    size = (len(c.conv_widths), c.conv_norm, c.conv_bias)
    return [_under((tables.hubert(*size), tables.hubert_fairseq(*size)), "params/hubert/")]


def projections(config: ModelConfig) -> tuple[str, ...]:
    """Projections of LLaMA that carry LoRA."""
    return tuple(p for p in (*"qkvo", *tables.MLP) if config.llama.lora.covers(p))


def stage_table(config: ModelConfig) -> Table:
    """What a model's own project writes to its checkpoints: what learns."""
    if isinstance(config, EmotionConfig):
        return tables.emotion_llama_v2(projections=projections(config), blocks=config.fusion.blocks)
    return tables.emotion_llama_v1(projections(config))


def _stage(config: ModelConfig) -> list[Spellings]:
    return [(stage_table(config),)]


_FACES = "the authors trained it on faces of MER2023; they give it out with the feature extraction code of Emotion-LLaMA"
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
        url="https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/eva_vit_g.pth",
        size=2_025_200_000,
    ),
    "whisper-large-v3": Source(
        title="Whisper large v3 (OpenAI); the encoder is used",
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
        fills=lambda config: [_under(tables.MAE_TABLES, "params/mae/")],
        by_hand=_FACES,
    ),
    "videomae-faces": Source(
        title="VideoMAE ViT-L on faces (Emotion-LLaMA)",
        licence="research only, with MER2023",
        fills=lambda config: [_under(tables.VIDEOMAE_TABLES, "params/videomae/")],
        by_hand=_FACES,
    ),
    "mae-large": Source(
        title="MAE ViT-L (Meta), in place of the one on faces; scores differ",
        licence="Apache-2.0",
        fills=lambda config: [_under(tables.MAE_TABLES, "params/mae/")],
        repo="facebook/vit-mae-large",
        instead_of="mae-faces",
        files=("pytorch_model.bin",),
        size=1_320_000_000,
    ),
    "videomae-large": Source(
        title="VideoMAE ViT-L (MCG-NJU), in place of the one on faces; scores differ",
        licence="CC-BY-NC-4.0",
        fills=lambda config: [_under(tables.VIDEOMAE_TABLES, "params/videomae/")],
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
        by_hand="the README of ZebangCheng/Emotion-LLaMA links it (Drive 1pNngqXdc3cKr9uLNW-Hu3SKvOpjzfzGY)",
    ),
    "emotion-llama-mer2023": Source(
        title="Emotion-LLaMA, the checkpoint of MER2023 (labels alone; F1 0.9036)",
        licence="BSD-3-Clause, Llama 2 Community License; data research only",
        fills=_stage,
        files=("checkpoint_best.pth",),
        by_hand="the README of ZebangCheng/Emotion-LLaMA links it (Drive 1NoPZDj5_392zBtVK1IHO8bepA4910iI_)",
    ),
    "peft-adapter": Source(
        title="a LoRA adapter folder of PEFT, over what the model's own sources hold",
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
    "frozen at ones and zeros in the originals, which save it nowhere",
)
_NEW = r"params/(fusion|project_(video|audio|fusion))/.*"
_V2 = ("llama-2-7b-chat", "eva-vit-g", "whisper-large-v3")
_V1 = ("llama-2-7b-chat", "eva-vit-g", "mae-faces", "videomae-faces", "chinese-hubert-large")

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
        title="where stage 1 of Emotion-LLaMAv2 starts",
        preset="v2:stage1",
        sources=(*_V2, "minigpt-v2"),
        fields=(),
        starts=(_LN_VISION, (_NEW, "new in Emotion-LLaMAv2, trained from its random start")),
    ),
    "emotion-llama": Model(
        title="Emotion-LLaMA", preset="v1", sources=(*_V1, "emotion-llama"), starts=(_LN_VISION,)
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
      ValueError: there is none of this name.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model '{name}'; there are {', '.join(MODELS)}")
    return MODELS[name]


def describe_source(source: Source) -> str:
    """One line: address, size, gate, licence."""
    size = f", {source.size / 1e9:.1f} GB" if source.size else ""
    gated = ", gated: ask for access first" if source.gated else ""
    return f"{source.repo or source.url or f'by hand: {source.by_hand}'}{size}{gated} ({source.licence})"
