"""How OpenMP's threads wait is set before torch or FAISS loads it, and is the user's where the user has set it."""

import os
import subprocess
import sys

import pytest

ASK = """
import sys
import registry
assert not {"torch", "faiss", "dgl"} & set(sys.modules)
import os
print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    "given, found", [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_threads_wait_briefly_unless_told_otherwise(given, found):
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = subprocess.run(
        [sys.executable, "-c", ASK], env={**plain, **given}, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [found]
