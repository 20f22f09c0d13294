"""Language models: LLaMA with LoRA, and Whisper's text decoder."""
