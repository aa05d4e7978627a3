"""What all tests share: a cache of their own, the real images if they are there, and no GPU test without a GPU."""
import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("sccs", deadline=None)  # a busy machine is no error
settings.load_profile("sccs")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests neither use nor fill the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCCS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real EM images, named by SCCS_DATA."""
    folder = os.environ.get("SCCS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SCCS_DATA does not name the folder of real EM images")
    return Path(folder)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
