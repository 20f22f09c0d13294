"""A server: clips and recordings over HTTP, chat completions like OpenAI's, jobs, a web page."""
