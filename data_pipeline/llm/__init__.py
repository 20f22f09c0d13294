"""Client for OpenAI-compatible chat endpoints: requests, stored replies, budget."""
