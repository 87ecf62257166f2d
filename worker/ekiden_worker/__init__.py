"""The Celery worker: claims jobs, runs them in one continuous batch, and writes every token to the job store."""
