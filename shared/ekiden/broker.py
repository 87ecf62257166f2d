"""The Celery application both sides share: its settings and the one task's name; the API sends, workers receive."""

from typing import Any

from celery import Celery

from ekiden.settings import Settings

TASK = "ekiden.generate"
QUEUE = "ekiden"


def celery_options(settings: Settings) -> dict[str, Any]:
    """Celery's settings. A message is a wake-up with a job id, acked early: recovery is the job store's."""
    return {
        "broker_url": settings.redis_url,
        "task_default_queue": _queue(settings),
        "task_acks_late": False,
        "task_ignore_result": True,
        "result_backend": None,
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_concurrency": settings.max_running,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "global_keyprefix": _key_prefix(settings),
        },
    }


def queue_key(settings: Settings) -> str:
    """The LIST that holds unread messages."""
    return _key_prefix(settings) + _queue(settings)


def _queue(settings: Settings) -> str:
    return f"{settings.key_prefix}.{QUEUE}"


def _key_prefix(settings: Settings) -> str:
    return f"{{{settings.key_prefix}}}:celery:"


def create_celery(settings: Settings, app_class: type[Celery] = Celery) -> Any:
    """A Celery app with Ekiden's settings."""
    app = app_class("ekiden", set_as_current=False)
    app.conf.update(celery_options(settings))
    return app
