"""Workers of a local cluster: their threads, and the memory that they keep."""

import os

import pytest

from sccs.inference.workers import MEMORY, cluster


@pytest.mark.slow
def test_workers_share_the_cores_keep_memory_and_are_not_profiled():
    pytest.importorskip("distributed")
    with cluster(2, None) as client:
        found = client.run(lambda: dict(os.environ))
        regular = client.run(lambda dask_worker: sorted(dask_worker.periodic_callbacks))
    assert len(found) == 2
    assert all("profile" not in names and "heartbeat" in names for names in regular.values())
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    for variables in found.values():
        assert variables["OMP_NUM_THREADS"] == threads
        assert {name: variables[name] for name in MEMORY} == MEMORY  # Dask's own trims after every array


def test_one_worker_needs_no_cluster():
    with cluster(1, None) as client:
        assert client is None
