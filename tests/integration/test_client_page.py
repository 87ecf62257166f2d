"""docs/client.md: its program runs as it stands, against a real service."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.nowhere import NOWHERE
from tests.support.processes import Processes

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def test_the_program_on_the_page_runs(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.002")  # most of its answers are 1,024 tokens long
    api = fleet.api()
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    program = blocks[0].replace("http://127.0.0.1:8000", f"http://{NOWHERE[0]}")
    program = program.replace("http://127.0.0.1:8001", api.http)  # the first address answers nothing
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "length Usage(" in lines[0]
    assert lines[1].endswith("length")
    assert " Names 1" in done.stdout
    assert "[('Name a swimmer.', '" in done.stdout
    assert lines[-1] == "out_of_range False params.temperature must be between 0 and 2."
