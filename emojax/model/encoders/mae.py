"""Weight tables of MAE, whose encoder is the plain vision transformer.

Source: He et al. 2022. Emotion-LLaMA v1 uses a ViT-L that was trained on faces.
"""

from __future__ import annotations

from emojax.model.encoders.shared_tables import (
    NOT_ENCODER,
    NOT_FEATURES,
    timm_vit,
    transformers_vit,
    with_head,
)
from emojax.model.weight_rules import PATCH, Table

_ORIGINAL = Table(
    "MAE (original and timm names)",
    timm_vit(PATCH, key_bias=True, final_norm=True),
    (NOT_ENCODER, NOT_FEATURES),
)
_TRANSFORMERS = transformers_vit("MAE (transformers)", PATCH, cls=True, fused_bias=False)
# All spellings; `load_tensors.choose_table` picks the one that a file uses.
MAE_TABLES = (
    _ORIGINAL,
    _TRANSFORMERS,
    with_head(_TRANSFORMERS, "vit.", NOT_ENCODER, NOT_FEATURES),
)
