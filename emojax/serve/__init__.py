"""A server: clips and recordings over HTTP, chat of the OpenAI kind, jobs, a web page."""
