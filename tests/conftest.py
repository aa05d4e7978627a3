"""What all tests share: a cache of their own, the real images if they are there, and no GPU test without a GPU."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# DGL's stub, for the process that hands tests out to others: it unpickles warnings that have graphs' modules
import registry.spg.dgl_adapter  # noqa: F401

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


@pytest.fixture
def fails(capsys):
    """fails(arguments, *words): the command ends with code 2 and one line that has all words."""

    def check(arguments: list, *words: str) -> None:
        from sccs.cli import main as command

        capsys.readouterr()
        assert command([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("sccs: error: ") and error.count("\n") == 1
        for word in words:
            assert word in error

    return check


@pytest.fixture
def disk_of():
    """disk_of(bytes): a context in which no file may grow beyond that, as by a quota (errno EFBIG)."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """`-n`: the tests of a file run in one process, in their order, as some share a window and many a trained run;
    only those of all systems, which are long and alone, run anywhere."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return nodeid if file.endswith("test_systems.py") else file

    config.option.loadscopereorder = False  # else the longest come last
    return Scheduling(config, log)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
