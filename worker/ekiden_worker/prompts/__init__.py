"""Messages to prompt ids. Every format is one small file and one entry in `formats`."""

from ekiden_worker.prompts.formats import choose_format
from ekiden_worker.prompts.template import UnusableTemplate

__all__ = ["UnusableTemplate", "choose_format"]
