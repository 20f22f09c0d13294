"""Small folders in the layout of every data set: what they contain, and how to damage them."""

from __future__ import annotations

from dataset_further_sets import FURTHER_SETS
from dataset_image_sets import IMAGE_SETS
from dataset_mmeverse_sets import MMEVERSE_SETS

FIXTURES = (*MMEVERSE_SETS, *FURTHER_SETS, *IMAGE_SETS)
