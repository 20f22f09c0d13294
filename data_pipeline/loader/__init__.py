"""From records to batches: mixture, tasks, prompts, tokens, padding, cached features."""
