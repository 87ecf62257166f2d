"""The FastAPI service: WebSocket chat, HTTP API and pages, in front of the job store."""
