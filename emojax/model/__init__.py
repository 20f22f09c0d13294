"""The modules of the paper: towers, fusion, LLaMA, and their composition in emotion.py."""
