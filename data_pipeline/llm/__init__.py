"""Chat endpoints of the OpenAI kind: requests, replies, budget."""
