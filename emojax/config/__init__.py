"""Configuration of a run: declared fields, presets, and their resolution into frozen records."""

from emojax.config.declaration import to_config_dict
from emojax.config.fields import Data, Optim, Rules, RunFields, StageFields, Train
from emojax.config.overrides import set_fields
from emojax.config.presets import (
    CONFIGS,
    change_fields,
    load_config,
    preset_module,
    unknown_variant,
)
from emojax.config.renamed_fields import original_names, rename_fields
from emojax.config.resolve import Settings, Stage, for_devices, resolve, resolve_saved

__all__ = [
    "CONFIGS",
    "Data",
    "Optim",
    "Rules",
    "RunFields",
    "Settings",
    "Stage",
    "StageFields",
    "Train",
    "change_fields",
    "for_devices",
    "load_config",
    "original_names",
    "preset_module",
    "rename_fields",
    "resolve",
    "resolve_saved",
    "set_fields",
    "to_config_dict",
    "unknown_variant",
]
