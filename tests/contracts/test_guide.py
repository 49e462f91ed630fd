"""docs/guide.md, typed by a new user: its blocks run in order, in one folder, on the real base."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.smollm2
def test_the_guide_runs_as_it_is_written(tmp_path):
    script = ["set -eu"]
    for number, (language, block) in enumerate(BLOCK.findall(GUIDE.read_text(encoding="utf-8"))):
        if language == "python":
            (tmp_path / f"block{number}.py").write_text(block, encoding="utf-8")
            block = f"python block{number}.py\n"
        script.append(f"echo '== block {number}'\n{block}")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "Shell Omala S2" in ran.stdout
    assert "cranes" in ran.stdout
