"""The model runtime: continuous batching over a paged KV cache; imports no Redis, no Celery and no web code."""
