"""What looks at a run needs neither torch nor what draws."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

# The page's own modules, of which the settings and the state of a run are told without any.
HEAVY = ("torch", "plotly", "jinja2", "transformers")


def test_a_run_is_read_without_torch_or_plotly() -> None:
    program = (
        "import sys\n"
        "import alphadecay.inspect.run.reader, alphadecay.inspect.run.goodput_words\n"
        "import alphadecay.inspect.run.checkpoints, alphadecay.inspect.run.grid\n"
        "import alphadecay.inspect.commands.report, alphadecay.inspect.html.write\n"
        "import train.loop.run_status, train.config.command_line\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
