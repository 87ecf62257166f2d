"""Keeps libraries' progress bars and advice out of our log."""

import logging
import os
import warnings

from transformers.utils import logging as transformers_logging


def quiet_libraries() -> None:
    """Let transformers, torch and the hub client speak only of errors, from now on in this process."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|torch|huggingface_hub)\.")
