"""What a run costs: memory is counted where the system counts it."""

import sys

from sccs.init.cost import peak_memory


def test_memory_is_told_where_the_system_does_not_count_it(monkeypatch):
    assert peak_memory() > 2**24
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows has none
    assert peak_memory() == 2**30
