"""Emotion-LLaMA (v1) at full size: `v1.py:stage1`, `v1.py:stage2`, both stages, or `v1.py:labels` (no reasons).

Facts: the released training configurations (stage 1 on coarse, stage 2 on fine descriptions) and the encoders of
the paper. The recipe that gives the published 0.9036 is another one; it comes with the training issue.
"""

from ml_collections import ConfigDict

from configs import base

_STAGES = {"": ("pretrain", "tune"), "stage1": ("pretrain",), "stage2": ("tune",), "labels": ("labels",)}


def get_config(variant: str = "") -> ConfigDict:
    """The released recipe; `variant` picks the stages."""
    if variant not in _STAGES:
        raise ValueError(f"v1.py:{variant} is not known; there are {sorted(_STAGES)}")
    c = base.get_config()
    c.name = "v1"
    to_v1(c)
    c.stages = _STAGES[variant]
    return c


def to_v1(c: ConfigDict) -> None:
    """Makes a v2 configuration one of v1: its streams, prompts and stages; sizes stay."""
    c.model.version = "v1"
    c.data.image_choice = "first"  # every released program takes the first frame
    c.data.temporal = "uniform"  # the original draws two frames from each of eight parts; ours are its middles
    c.data.buckets = ((384, 32), (512, 128), (1024, 384), (2048, 1024))
    c.stage = ConfigDict()
    c.stage.pretrain = base.stage("v1", ("emotion", "reason"), max_words=200)
    c.stage.tune = base.stage("v1", ("reason_v2",), max_words=200)
    c.stage.pretrain.steps = c.stage.tune.steps = 30_000
    c.stage.labels = base.stage("v1", ("emotion",), max_words=200)
    for stage in c.stage.values():
        stage.released = False  # those stages are of v2
    c.stage.labels.steps = 30_000
    c.stages = ("pretrain", "tune")
    c.trainable = (
        (r"lora/.*", "train"),
        (r"params/project_\w+/.*", "train"),
        (r"params/(eva_image|mae|videomae|hubert|ln_vision|llama)/.*", "freeze"),
    )
    c.optim.update({"lr": 1e-5, "min_lr": 1e-6, "warmup_lr": 1e-6})
