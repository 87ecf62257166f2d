"""`python -m ekiden_worker`: one worker process."""

import importlib
import sys
import time
from collections.abc import Callable

import structlog

from ekiden.exit_codes import CONFIG, ENGINE_LOST
from ekiden.logs import configure_logging
from ekiden.settings import Settings, SettingsError, load_settings
from ekiden.tracing import check_tracing, tracing
from ekiden_worker.engine.interface import EngineError
from ekiden_worker.runtime import ModelError, Runtime

log = structlog.get_logger()


def main() -> int:
    """Load the model, then serve until told to stop. Returns the exit status."""
    try:
        settings = load_settings()
        configure_logging(settings)
        check_tracing()
        with tracing("ekiden-worker"):
            return run(settings)
    except (SettingsError, ModelError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return CONFIG
    except EngineError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return ENGINE_LOST


def run(settings: Settings) -> int:
    """Serve with these settings. Raises SettingsError, ModelError and EngineError."""
    from ekiden_worker.app import serve
    from ekiden_worker.metrics_server import metrics_port, number_of, serving_metrics
    from ekiden_worker.runner import running

    started = time.monotonic()
    with metrics_port(settings) as port:
        log.info("loading_model", model=settings.model, device=settings.device)
        runtime = load_runtime(settings)
        with running(settings, runtime, number_of(port)) as runner, serving_metrics(settings, port, runner.metrics):
            log.info("engine_ready", model=runtime.model, seconds=round(time.monotonic() - started, 1))
            return serve(settings, runner)


def load_runtime(settings: Settings) -> Runtime:
    """Build the runtime that `settings.engine` names as module:function. Raises ModelError."""
    module_name, _, function_name = settings.engine.partition(":")
    try:
        load: Callable[[Settings], Runtime] = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"EKIDEN_ENGINE={settings.engine} cannot be loaded: {error}.") from None
    return load(settings)


if __name__ == "__main__":
    sys.exit(main())
