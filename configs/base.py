"""Emotion-LLaMAv2 at full size with the released training recipe; the other presets start from it.

The fields are declared, with types, defaults and comments, in emojax/config/fields.py.
"""

from ml_collections import ConfigDict

from emojax.config import RunFields, to_config_dict


def get_config() -> ConfigDict:
    """The full-size v2 model with the released training recipe."""
    return to_config_dict(RunFields())
