"""Every field of a run: name, type, default, allowed values. Each is declared only here.

The defaults are the full-size Emotion-LLaMAv2 with the released training recipe (paper, sections
1.2 to 1.7). `configs/base.py` turns them into a ConfigDict, which presets, sweeps and the command
line change (`--config.optim.lr=3e-4`); `resolve.py` turns that into the records that the program
uses.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Literal

from data_pipeline.loader.mixture import Per
from data_pipeline.loader.prompts import Layout, Style
from data_pipeline.media.views import IMAGENET_MEAN, IMAGENET_STD
from emojax.config.declaration import AtLeast, OneOf
from emojax.model.fusion import Kind
from emojax.model.parts import ENCODERS, LANGUAGE_MODELS
from emojax.model.remat import REMAT

# (regular expression on the tree path, train | freeze); the first match decides, and every leaf
# must match one of them.
Rules = tuple[tuple[str, str], ...]
Remat = Annotated[str, OneOf("auto", "none", *REMAT, "dots")]
LongRemat = Annotated[str, OneOf("", "none", *REMAT, "dots")]


def _families(*kinds: str) -> tuple[str, ...]:
    return tuple(name for name, family in ENCODERS.items() if family.kind in kinds)


@dataclass(frozen=True, kw_only=True)
class TowerFields:
    """Sizes of an image transformer."""

    size: int  # height and width of the picture in pixels
    patch: int  # height and width of a patch in pixels
    width: int
    depth: int
    heads: int
    mlp: int
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FaceFields(TowerFields):
    """The MAE of v1."""

    pool: Literal["cls", "mean"] = "cls"  # how one frame becomes one vector, after the final norm


@dataclass(frozen=True, kw_only=True)
class PictureFields(TowerFields):
    """An encoder of pictures."""

    # A release (`emojax weights list --parts`), hf:OWNER/NAME, or a folder: sets the fields below,
    # and its weights are where training starts. "": none.
    part: str = ""
    family: Annotated[str, OneOf(*_families("picture"))] = "eva"
    activation: Literal["", "gelu", "quick_gelu", "gelu_tanh"] = ""  # "": the family's own
    mean: tuple[float, ...] = ()  # of the pixels, per channel; (): the family's own
    std: tuple[float, ...] = ()
    final_norm: bool = True  # whether the tokens pass the encoder's last norm
    layer_weights: bool = False  # whether the output is a learned weighted sum of all layers


@dataclass(frozen=True, kw_only=True)
class SoundFields:
    """The encoder of sound of v2."""

    part: str = ""  # as of `PictureFields`
    family: Annotated[str, OneOf(*_families("sound"))] = "whisper"
    mels: int = 128  # log-mel bins; 0: the encoder reads the waveform
    seconds: float = 30.0  # window
    width: int = 1280
    depth: int = 32
    heads: int = 20
    mlp: int = 5120
    dropout: float = 0.0
    layer_weights: bool = False  # whether the output is a learned weighted sum of all layers
    # Of encoders of waveforms only.
    conv_width: int = 512
    conv_norm: Literal["layer", "group"] = "layer"
    conv_bias: bool = True
    post_norm: bool = False
    normalize: bool = True  # whether waveforms are brought to zero mean and unit variance
    position_kernel: int = 128
    position_groups: int = 16


@dataclass(frozen=True, kw_only=True)
class HubertFields:
    """The HuBERT encoder of v1."""

    seconds: float = 30.0  # window
    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp: int = 4096
    dropout: float = 0.0
    conv_width: int = 512
    position_kernel: int = 128
    position_groups: int = 16


@dataclass(frozen=True, kw_only=True)
class FusionFields:
    """Conv-Attention, or what replaces it."""

    kind: Kind = "conv_attention"
    hidden: int = 512
    width: int = 128
    out: int = 256
    blocks: int = 4
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class LlamaFields:
    """The language model; the sizes are those of LLaMA-2-7B."""

    # A release (`emojax weights list --parts`), hf:OWNER/NAME, or a folder: sets the fields below,
    # and its weights and tokenizer are where training starts. "": none.
    part: str = ""
    family: Annotated[str, OneOf(*LANGUAGE_MODELS)] = "llama2"
    vocab: int = 32000
    width: int = 4096
    depth: int = 32
    heads: int = 32
    kv_heads: int = 0  # heads of keys and values; 0: as many as `heads`
    head_width: int = 0  # 0: width / heads
    mlp: int = 11008
    dropout: float = 0.0
    eps: float = 1e-5  # of the norms
    theta: float = 10_000.0  # base of the rotary embedding
    rope_scaling: Literal["none", "linear", "llama3"] = "none"
    rope_factor: float = 1.0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_original: int = 8192  # positions of pretraining
    tied: bool = False  # whether the output head is the embedding table
    qkv_bias: bool = False
    qk_norm: bool = False
    window: int = 0  # tokens that attention reaches back; rows must not be longer; 0: no limit


@dataclass(frozen=True, kw_only=True)
class LoraFields:
    """The adapters of the language model."""

    rank: int = 64
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q", "v")  # projections that carry an adapter


@dataclass(frozen=True, kw_only=True)
class ModelFields:
    """config.model: the network."""

    version: Literal["v1", "v2"] = "v2"  # v2: Emotion-LLaMAv2; v1: Emotion-LLaMA
    # Activations and matmuls; norms, softmax and loss are always float32.
    compute_dtype: str = "bfloat16"
    # Frozen weights in memory; trainable weights are always float32.
    param_dtype: str = "bfloat16"
    # Frozen kernels of transformer blocks and output head. float: param_dtype; int8: one scale per
    # output channel.
    kernels: Literal["float", "int8"] = "float"
    # Keys and values during generation. float: compute_dtype; int8: one scale per token and head.
    cache: Literal["float", "int8"] = "float"
    # What a layer of the language model keeps for its backward pass (emojax/model/remat.py). auto:
    # as much as fits into the device's memory, for each row length; none: everything. From `all` to
    # `full`, memory falls and recomputation grows.
    remat: Remat = "auto"
    remat_long: LongRemat = ""  # another policy for rows of more than `long_row` tokens
    long_row: int = 768
    unroll: int = 1  # unrolled layers per scan step: 1 on accelerators, the depth on CPU
    # Absent streams. released: their constant tokens stay visible; masked: attention ignores them.
    missing: Literal["released", "masked"] = "released"
    # Sound that is encoded. window: the padded window (released); real: its own length.
    audio_span: Literal["window", "real"] = "window"
    stem: Literal["random", "cosine"] = "random"  # initial patch kernels when trained from scratch
    # Auxiliary bag-of-words heads: towers also predict the words of their descriptions. For
    # training from scratch.
    word_heads: bool = False
    # With `word_heads`: the gradient of the language model ends at the features.
    detach_towers: bool = False
    num_frames: int = 16
    video_pool: int = 2  # the patches of a frame are averaged to 2 x 2
    image: PictureFields = PictureFields(
        size=448, patch=14, width=1408, depth=39, heads=16, mlp=6144, final_norm=False
    )
    video: PictureFields = PictureFields(
        size=224,
        patch=14,
        width=1408,
        depth=40,
        heads=16,
        mlp=6144,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    audio: SoundFields = SoundFields()
    # v1 only: MAE and VideoMAE on the frames, and HuBERT on the waveform instead of Whisper.
    face: FaceFields = FaceFields(size=224, patch=16, width=1024, depth=24, heads=16, mlp=4096)
    motion: TowerFields = TowerFields(size=224, patch=16, width=1024, depth=24, heads=16, mlp=4096)
    hubert: HubertFields = HubertFields()
    fusion: FusionFields = FusionFields()
    llama: LlamaFields = LlamaFields()
    lora: LoraFields = LoraFields()


@dataclass(frozen=True, kw_only=True)
class Data:
    """config.data: from clips to rows."""

    image_choice: Literal["first", "middle", "peak", "index"] = "peak"
    # window: 16 consecutive frames (released); uniform: frames from the whole clip.
    temporal: Literal["uniform", "window"] = "window"
    # (row length, answer length) that are compiled; a batch uses the smallest pair that holds it.
    buckets: tuple[tuple[int, int], ...] = ((640, 32), (768, 128), (1024, 384), (2048, 1024))
    layout: Layout = "train"  # prompts of an evaluation (data_pipeline/loader/prompts.py)
    # Custom questions per task, or per DATASET/TASK for evaluation, which uses the first one;
    # {labels} is replaced.
    # Tasks without an entry use those of data_pipeline/loader/prompts.py.
    questions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    max_answer: int = 1024  # tokens, including the end token
    max_subtitle: int = 1024  # tokens; longer subtitles are truncated
    no_subtitle: str = ""  # text of the prompt where the transcript is unknown; "" as released
    augment: float = 0.0  # strength of seeded augmentation of pictures and sound; 0 for parity
    # Above 1: label probabilities are averaged over the clip and augmented copies.
    eval_views: int = 1
    # Fraction of the training rows whose audio features are normalised per speaker
    # (data_pipeline/media/speaker_norm.py). Below 1, clips of unknown speakers work better, at the
    # cost of those of known speakers.
    speaker_norm: float = 0.0
    words: int = 16  # distinct words of a description that the auxiliary bag-of-words heads predict
    prefetch: int = 4  # batches that are prepared ahead
    threads: int = 2  # reading threads
    workers: int = 0  # processes that prepare batches; 0: the reading threads alone
    # Steps whose rows are sorted by length (built data only); 1: unsorted (released).
    window: int = 1
    draw: Per = "batch"  # batch: one data set per step on all processes (released); sample: per row
    # Mixture weights of data sets, "name=weight,...". The default of a data set is its weight in
    # the released stage, or else its number of clips.
    weights: str = ""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """config.optim: AdamW and its learning rate."""

    lr: float = 1e-4
    min_lr: float = 1e-6
    warmup_lr: float = 1e-6
    warmup: int = 1000  # steps
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.05  # of tensors with at least two dimensions (per layer, not stacked)
    clip: float = 0.0  # global gradient norm; 0: no clipping, as released
    ema: float = 0.0  # decay of the averaged weights that are evaluated and saved; 0: no average


def _no_changes() -> dict[str, float | None]:
    return dict.fromkeys(f.name for f in dataclasses.fields(Optim))


@dataclass(frozen=True, kw_only=True)
class StageFields:
    """config.stage.NAME: one stage of the curriculum."""

    style: Style  # prompt style
    tasks: tuple[str, ...]  # one is drawn uniformly per sample
    max_words: int  # longer answers fall back to the label task
    steps: Annotated[int, AtLeast(0)] = 50_000
    drop_modality: float = 0.0  # probability that one modality of a sample is hidden; 0 as released
    # Probability of an invented word at each position between two words; 0 as released.
    random_word_insertion: float = 0.0
    # Whether data sets of MMEVerse are asked as in the released stages
    # (data_pipeline/loader/released_stages.py); the fields above then apply only to others.
    released: bool = True
    # Whether the image is kept after a failed audio task. The released code trains on a zero image.
    restore_image: bool = False
    # Initial weights. previous: of the stage before; start: of the run; or the name of a stage.
    inherits: str = "previous"
    weights: str = ""  # mixture weights in place of config.data.weights; "": config.data.weights
    trainable: Rules = ()  # rules in place of config.trainable; (): config.trainable
    # Values in place of those in config.optim; None: the value there.
    optim: dict[str, float | None] = field(default_factory=_no_changes)


def _stages() -> dict[str, StageFields]:
    both = ("emotion", "audio", "image", "think", "reason")
    return {
        "perception": StageFields(
            style="perception", tasks=("emotion", "audio", "image"), max_words=120
        ),
        "cognition": StageFields(
            style="cognition", tasks=("emotion", "think", "reason"), max_words=200
        ),
        "joint": StageFields(style="cognition", tasks=both, max_words=200),
    }


@dataclass(frozen=True, kw_only=True)
class Train:
    """config.train: the run."""

    batch: Annotated[int, AtLeast(1)] = 4  # batch size over all devices
    # Above 0: batch size per device, used instead of `batch`. Steps and warm-up are scaled so that
    # a stage sees batch x steps samples; the learning rate is not changed.
    rows_per_device: int = 0
    # Equal parts into which a step divides its batch: less memory, same gradient.
    accumulate: Annotated[int, AtLeast(1)] = 1
    # Devices along data, fsdp, tensor; -1: the remaining ones. (0, 0, 0): up to 16 along fsdp, the
    # others along data.
    mesh: tuple[int, int, int] = (-1, 1, 1)
    log_every: Annotated[int, AtLeast(1)] = 50
    save_every: Annotated[int, AtLeast(1)] = 5000
    log_clips: bool = False  # clips-N.jsonl: which clips process N had in each step
    keep: Annotated[int, AtLeast(1)] = 2  # newest checkpoints per stage; the best one is also kept
    validate_every: int = 0  # steps between evaluations of the validation split; 0: none
    validate_clips: int = 256  # at most this many clips of that split, always the same ones
    # Final weights of a stage. best: highest score on the validation split, never the test split.
    take: Literal["last", "best"] = "last"
    # Model folder, or name of an imported model, with the initial weights; its sizes must match.
    init_from: str | None = None
    # llama: the LLaMA-2 file; small: trained on the texts of the run.
    tokenizer: Literal["llama", "small"] = "llama"
    tokenizer_path: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunFields:
    """config: a whole run."""

    name: str = "v2"
    seed: int = 42
    model: ModelFields = ModelFields()
    data: Data = field(default_factory=Data)
    # Stages run in this order. Each inherits weights, but not the state of the optimizer.
    stages: tuple[str, ...] = ("perception", "cognition")
    stage: dict[str, StageFields] = field(default_factory=_stages)
    trainable: Rules = (
        (r"params/.*/layer_weights", "train"),
        (r"lora/.*", "train"),
        (r"params/(fusion|project_\w+)/.*", "train"),
        (r"params/.*", "freeze"),
    )
    optim: Optim = Optim()
    train: Train = Train()
