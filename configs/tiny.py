"""Emotion-LLaMAv2 in miniature: the same code at sizes that train from scratch on a laptop in minutes.

`tiny.py` is what `emojax demo` trains on the embedded corpus; `tiny.py:people` is the preset of `emojax
train --manifest` for small sets of real recordings; `tiny.py:test` is the smallest, for tests.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "") -> ConfigDict:
    """The miniature; see the module's text for the variants."""
    c = base.get_config()
    c.name = "tiny"
    c.seed = 0
    m = c.model
    m.compute_dtype = m.param_dtype = "float32"
    m.remat = "none"
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
    c.data.temporal = "uniform"
    c.data.buckets = ((96, 24), (128, 64), (320, 64))
    c.data.max_answer, c.data.max_subtitle = 64, 160
    c.data.no_subtitle = "(not known)"
    c.data.augment = 0.3
    # Without imported weights everything learns.
    c.trainable = ((r"params/whisper/positions", "freeze"), (r"(params|lora)/.*", "train"))
    for stage in c.stage.values():
        stage.steps = 450
        stage.drop_modality = 0.15
        stage.restore_image = True
    c.stage.perception.steps = 750
    c.stage.cognition.drop_modality = 0.25
    c.stage.joint.steps = 1200
    c.optim.update({"lr": 1e-3, "min_lr": 1e-5, "warmup_lr": 1e-5, "warmup": 50, "b2": 0.99, "clip": 1.0, "ema": 0.99})
    c.train.update({"batch": 24, "log_every": 20, "save_every": 200, "tokenizer": "small"})
    if variant == "people":
        _people(c)
    elif variant == "test":
        _test(c)
    elif variant:
        raise ValueError(f"tiny.py:{variant} is not known; there are people, test")
    return c


def _people(c: ConfigDict) -> None:
    c.model.audio.update({"seconds": 4.0, "heads": 2, "depth": 1})
    c.data.image_choice = "middle"
    c.stages = ("perception",)
    c.stage.perception.update({"tasks": ("emotion",), "steps": 500, "drop_modality": 0.3})
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
    m.fusion.update({"hidden": 16, "width": 16, "out": 16, "blocks": 2})
    m.llama.update({"vocab": 512, "width": 32, "depth": 2, "heads": 2, "mlp": 64})
    for stage in c.stage.values():
        stage.steps = 6
    c.data.speaker_norm = 0.8
    c.data.buckets = ((144, 40), (208, 96), (400, 96))
    c.data.max_answer = 96
    c.optim.warmup = 2
    c.train.update({"batch": 8, "log_every": 1, "save_every": 2})
