"""Emotion-LLaMAv2 in miniature: sizes that train from scratch on a laptop in minutes.

* `tiny.py`: what `emojax demo` trains on the embedded corpus.
* `tiny.py:people`: preset of `emojax train --manifest` for small sets of real recordings.
* `tiny.py:v1`: Emotion-LLaMA (v1) in miniature.
* `tiny.py:test`, `tiny.py:test_v1`: the smallest sizes, for tests.
* `tiny.py:released`, `tiny.py:released_v1`: those sizes with the behaviour of the released models,
  for weights in their layout.
"""

from ml_collections import ConfigDict

from emojax.config.presets import preset_module, unknown_variant

VARIANTS = ("people", "v1", "test", "test_v1", "released", "released_v1")

v1, v2 = preset_module("v1"), preset_module("v2")


def get_config(variant: str = "") -> ConfigDict:
    """The miniature; the module's docstring lists the variants.

    Raises:
      ValueError: there is no such variant.
    """
    c = preset_module("base").get_config()
    c.name = "tiny"
    c.seed = 0
    _sizes(c)
    c.data.temporal = "uniform"
    c.data.buckets = ((112, 24), (144, 64), (320, 64))
    c.data.max_answer, c.data.max_subtitle = 64, 160
    c.data.no_subtitle = "(not known)"
    c.data.augment = 0.3
    # Without imported weights everything is trained.
    c.trainable = ((r"params/whisper/positions", "freeze"), (r"(params|lora)/.*", "train"))
    for stage in c.stage.values():
        stage.steps = 450
        stage.drop_modality = 0.15
        stage.random_word_insertion = 0.2
        stage.restore_image = True
        stage.released = False
    c.data.draw = "sample"
    c.stage.perception.steps = 750
    c.stage.cognition.drop_modality = 0.25
    c.stage.joint.steps = 1200
    c.optim.update({"lr": 1e-3, "min_lr": 1e-5, "warmup_lr": 1e-5, "warmup": 50})
    c.optim.update({"b2": 0.99, "clip": 1.0, "ema": 0.99})
    c.train.update({"batch": 24, "log_every": 20, "save_every": 200, "tokenizer": "small"})
    if variant == "people":
        _people(c)
    elif variant == "v1":
        _v1(c)
    elif variant == "test":
        _test(c)
    elif variant == "test_v1":
        _v1(c)
        _test(c)
    elif variant == "released":
        _test(c)
        _released(c, v2.get_config())
    elif variant == "released_v1":
        _v1(c)
        _test(c)
        _released(c, v1.get_config())
    elif variant:
        raise unknown_variant("tiny", variant, VARIANTS)
    return c


def _sizes(c: ConfigDict) -> None:
    """The model in miniature, in float32."""
    m = c.model
    m.compute_dtype = m.param_dtype = "float32"
    m.remat = m.remat_long = "none"
    m.unroll = 4
    m.missing, m.audio_span = "masked", "real"
    m.stem, m.word_heads = "cosine", True
    m.num_frames, m.video_pool = 8, 1
    m.image.update({"size": 96, "patch": 16, "width": 96, "depth": 4, "heads": 4, "mlp": 288})
    m.video.update({"size": 48, "patch": 16, "width": 64, "depth": 2, "heads": 4, "mlp": 192})
    m.audio.update({"mels": 80, "seconds": 2.5, "width": 64, "depth": 2, "heads": 4, "mlp": 192})
    m.fusion.update({"hidden": 96, "width": 64, "out": 96, "blocks": 2})
    m.llama.update({"vocab": 1200, "width": 96, "depth": 2, "heads": 4, "mlp": 192})
    m.lora.update({"rank": 4, "alpha": 4.0, "dropout": 0.0})
    for tower in (m.audio, m.llama):
        tower.dropout = 0.1


def _v1(c: ConfigDict) -> None:
    """The streams of v1 in miniature; learning rate and trainable parts stay those from scratch."""
    stages = {
        name: (s.steps, s.drop_modality, s.random_word_insertion) for name, s in c.stage.items()
    }
    optim, trainable = c.optim.copy_and_resolve_references(), c.trainable
    v1.to_v1(c)
    c.name = "tiny-v1"
    c.optim, c.trainable = optim, trainable
    c.data.image_choice = "peak"
    c.data.buckets = ((112, 24), (144, 64), (320, 64))
    for name, like in (("pretrain", "perception"), ("tune", "cognition")):
        fields = c.stage[name]
        fields.steps, fields.drop_modality, fields.random_word_insertion = stages[like]
        fields.restore_image = True
    # A small model that is trained on one task alone forgets the other.
    c.stage.tune.tasks = ("emotion", "reason_v2")
    c.model.face.update(
        {"size": 48, "patch": 16, "width": 64, "depth": 2, "heads": 4, "mlp": 192, "pool": "mean"}
    )
    c.model.motion.update(
        {"size": 48, "patch": 16, "width": 64, "depth": 2, "heads": 4, "mlp": 192}
    )
    c.model.hubert.update(
        {"seconds": 2.5, "width": 64, "depth": 2, "heads": 4, "mlp": 192, "dropout": 0.1}
    )
    c.model.hubert.update({"conv_width": 32, "position_kernel": 16, "position_groups": 4})


def _people(c: ConfigDict) -> None:
    c.model.audio.update({"seconds": 4.0, "heads": 2, "depth": 1})
    c.data.image_choice = "middle"
    c.stages = ("perception",)
    c.stage.perception.update({"tasks": ("emotion",), "steps": 500, "drop_modality": 0.3})
    c.stage.perception.random_word_insertion = 0.0
    for tower in (c.model.image, c.model.video, c.model.audio, c.model.llama):
        tower.dropout = 0.2
    c.model.detach_towers = True
    c.data.augment, c.data.eval_views, c.data.speaker_norm = 0.3, 8, 1.0
    c.data.buckets = ((96, 8), (192, 16), (512, 64))


def _test(c: ConfigDict) -> None:
    m = c.model
    m.unroll = 1
    m.num_frames = 4
    m.image.update({"size": 32, "patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp": 32})
    m.video.update({"size": 16, "patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp": 32})
    m.audio.update({"mels": 80, "seconds": 1.0, "width": 16, "depth": 2, "heads": 2, "mlp": 32})
    m.face.update({"size": 16, "patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp": 32})
    m.motion.update({"size": 16, "patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp": 32})
    m.hubert.update({"seconds": 1.0, "width": 16, "depth": 2, "heads": 2, "mlp": 32})
    m.hubert.update({"conv_width": 8, "position_kernel": 4, "position_groups": 2})
    m.fusion.update({"hidden": 16, "width": 16, "out": 16, "blocks": 2})
    m.llama.update({"vocab": 512, "width": 32, "depth": 2, "heads": 2, "mlp": 64})
    for stage in c.stage.values():
        stage.steps, stage.random_word_insertion = 6, 0.0
    c.data.speaker_norm = 0.8
    c.data.buckets = ((144, 40), (208, 96), (400, 96))
    c.data.max_answer = 96
    c.optim.warmup = 2
    c.train.update({"batch": 8, "log_every": 1, "save_every": 2})


def _released(c: ConfigDict, full: ConfigDict) -> None:
    """Streams, prompts and trainable parts as at full size."""
    m = c.model
    m.update({"missing": "released", "audio_span": "window", "stem": "random", "word_heads": False})
    m.face.pool = full.model.face.pool
    m.video.depth = m.image.depth + 1  # the temporal tower has one block more
    m.fusion.blocks, m.lora.dropout = 4, full.model.lora.dropout
    for tower in (m.audio, m.hubert, m.llama):
        tower.dropout = 0.0
    c.trainable, c.train.tokenizer = full.trainable, "llama"
    for field in (
        "image_choice",
        "temporal",
        "no_subtitle",
        "augment",
        "eval_views",
        "speaker_norm",
    ):
        c.data[field] = full.data[field]
