"""wav2vec 2.0 encoder: waveform -> audio features, 50 steps per second.

Source: Baevski et al. 2020, as transformers' Wav2Vec2Model computes it.
"""

from __future__ import annotations

import functools

from emojax.model.encoders.shared_tables import with_head
from emojax.model.encoders.waveform import (
    HEADS,
    WaveformConfig,
    WaveformEncoder,
    transformers_table,
    waveform_config,
    waveform_fields,
    waveform_sizes,
)
from emojax.model.part import Family, Release
from emojax.model.weight_rules import Table

_PRETRAINING = (r"(quantizer|project_hid|project_q)\..*", "used only in pretraining")


def _tables(config: WaveformConfig) -> tuple[Table, ...]:
    alone = transformers_table("wav2vec 2.0", config)
    return alone, with_head(alone, "wav2vec2.", HEADS, _PRETRAINING)


FAMILY = Family(
    name="wav2vec2",
    title="wav2vec 2.0",
    kind="sound",
    model_types=("wav2vec2",),
    releases=(
        Release(
            name="wav2vec2-base",
            repo="facebook/wav2vec2-base",
            licence="Apache-2.0",
            fields=waveform_sizes("base"),
        ),
        Release(
            name="wav2vec2-large",
            repo="facebook/wav2vec2-large",
            licence="Apache-2.0",
            fields=waveform_sizes("large", conv_norm="group", conv_bias=False, post_norm=True),
        ),
        Release(
            name="wav2vec2-large-lv60",
            repo="facebook/wav2vec2-large-lv60",
            licence="Apache-2.0",
            fields=waveform_sizes("large"),
        ),
    ),
    read_config=functools.partial(waveform_fields, title="wav2vec 2.0"),
    make=waveform_config,
    module=WaveformEncoder,
    tables=_tables,
)
