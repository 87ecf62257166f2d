"""`python -m ekiden_worker.fetch`: have the model's files ready before a worker starts."""

import sys

from ekiden.exit_codes import CONFIG
from ekiden.settings import DEFAULT_ENGINE, SettingsError, load_settings
from ekiden_worker.hf_folder import converted
from ekiden_worker.model_files import model_path
from ekiden_worker.runtime import ModelError


def main() -> int:
    """Fetch and convert; returns the exit status."""
    try:
        settings = load_settings()
        if settings.engine != DEFAULT_ENGINE:
            return 0  # another engine knows where its models come from
        path = model_path(settings)
        if path.is_file():
            converted(path, settings.cache_dir)
    except (ModelError, SettingsError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
