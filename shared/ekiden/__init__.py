"""What clients, API and workers share: the protocol, settings, the job store and the client."""

__version__ = "0.1.0"
