"""Imports every module of both packages; run where only requirements.txt is installed."""

import importlib
import pkgutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

names = []
for package in ("emojax", "data_pipeline", "configs"):
    module = importlib.import_module(package)
    names += [package] + [m.name for m in pkgutil.walk_packages(module.__path__, package + ".")]
names = [n for n in names if not n.startswith("emojax.serve")]  # needs the extra of its name
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules import with requirements.txt alone")
