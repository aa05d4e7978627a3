"""The benchmarks of speed at their smallest: that they run, write what they say, and count right. No time is judged."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks" / "speed"


@pytest.fixture(scope="module", autouse=True)
def on_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def read(out: Path, name: str) -> list[dict]:
    text = (out / f"{name}.md").read_text()
    assert text.startswith("# ") and f"python benchmarks/speed/{name}.py" in text and "CPU core" in text
    with open(out / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_scaling_times_every_method_and_finds_the_exponent(tmp_path):
    import scaling

    arguments = ["--nodes", "100", "225", "400", "--repeats", "1", "--no-memory", "--out", str(tmp_path)]
    assert scaling.guard(scaling.main)(arguments) == 0
    rows = read(tmp_path, "scaling")
    assert {row["method"] for row in rows} == set(scaling.METHODS)
    assert {row["nodes"] for row in rows} == {"100", "225", "400"}
    assert (tmp_path / "scaling.png").stat().st_size > 0
    assert scaling.growth([10, 100, 1000], [1, 10**1.5, 1000]) == pytest.approx(1.5)


def test_memory_of_a_dense_solver_grows_with_the_square_of_the_nodes():
    import scaling

    small, large = (scaling.memory("eigh", scaling.made_graph(n)) for n in (400, 1600))
    assert 0 <= small < 40 and large > 2 * 1600**2 * 8 / 2**20


def test_solvers_of_scaling_find_the_same_eigenvalues():
    import scaling

    graph = scaling.made_graph(400)
    found = [how.solve(how.build(scaling.fresh(graph)))[0] for how in map(scaling.method, ("eigsh", "lobpcg", "eigh"))]
    for values in found:
        assert np.sort(values) == pytest.approx(np.sort(found[-1]), abs=1e-6)


def test_training_reports_both_systems_and_the_mae(tmp_path):
    import training

    arguments = ["--graphs", "1", "--side", "160", "--iterations", "40", "--repeats", "1", "--steps", "1"]
    assert training.guard(training.main)([*arguments, "--out", str(tmp_path)]) == 0
    assert {row["system"] for row in read(tmp_path, "training")} == {"sccs", "sccs_plus", "mae"}


def test_assignment_counts_wrong_labels_of_every_method(tmp_path):
    import assignment

    arguments = ["--points", "500", "2500", "--dimensions", "12", "--block", "1000", "--repeats", "1"]
    assert assignment.guard(assignment.main)([*arguments, "--out", str(tmp_path)]) == 0
    rows = read(tmp_path, "assignment")
    assert {row["method"] for row in rows} == {"assign", "FAISS", "scikit-learn", "torch"}
    lines = [line for line in (tmp_path / "assignment.md").read_text().splitlines() if "| assign |" in line]
    assert len(lines) == 2 and all(line.endswith("| 0 |") for line in lines)


def test_superpixels_are_held_against_labels(tmp_path, monkeypatch):
    import superpixels

    small = ["data.shapes=[[4,160,160],[4,160,160]]", "data.train_slices=1", "data.test_slices=1"]
    monkeypatch.setitem(superpixels.QUICK_DATA, "phantom", small)
    arguments = ["--data", "phantom", "--repeats", "1", "--out", str(tmp_path)]
    assert superpixels.guard(superpixels.main)(arguments) == 0
    rows = read(tmp_path, "superpixels")
    assert {row["SLIC"] for row in rows} == {superpixels.ITSELF, *superpixels.METHODS}
    own, ours = (
        [row for row in rows if row["SLIC"] == name] for name in (superpixels.ITSELF, "its labels, 10 iterations")
    )
    assert [row["boundary recall"] for row in own] == [row["boundary recall"] for row in ours]
    assert all(0 < float(row["boundary recall"]) <= 1 for row in rows)


@pytest.mark.slow
def test_every_way_to_run_the_encoder_gives_its_tokens(tmp_path, monkeypatch):
    import encoder

    # torch.compile needs a C++ compiler, which a user may lack
    monkeypatch.setattr(encoder, "WAYS", {key: make for key, make in encoder.WAYS.items() if key[0] != "torch.compile"})
    assert encoder.guard(encoder.main)(["--side", "80", "--repeats", "1", "--out", str(tmp_path)]) == 0
    rows = read(tmp_path, "encoder")
    assert {("torch", "float32"), ("torch", "bfloat16"), ("ONNX Runtime", "float32")} <= {
        (row["run by"], row["precision"]) for row in rows
    }
    lines = [line.split(" | ") for line in (tmp_path / "encoder.md").read_text().splitlines() if line.startswith("| ")]
    differences = {line[0].strip("| "): float(line[-1].strip("| ")) for line in lines[1:] if line[1] == "float32"}
    assert max(differences.values()) < 1e-4


def test_quality_of_perfect_and_of_useless_superpixels():
    from superpixels import quality

    labels = np.zeros((20, 20), np.int64)
    labels[:, 10:] = 1
    everywhere = np.ones(labels.shape, bool)
    assert quality(labels, labels, everywhere) == (2, 1.0, 0.0, 1.0)
    assert quality(np.zeros_like(labels), labels, everywhere) == (1, 0.0, 1.0, 0.5)


def test_the_gpu_script_runs_on_the_cpu(tmp_path):
    import gpu

    arguments = ["--device", "cpu", "--side", "160", "--fovs", "2", "--repeats", "1", "--points", "1000"]
    assert gpu.guard(gpu.main)([*arguments, "--out", str(tmp_path)]) == 0
    rows = read(tmp_path, "gpu")
    values = {row["name" if "name" in row else "what"]: float(row["value"]) for row in rows if row["group"] == "parity"}
    assert values["superpixels"] == values["assignment"] == 1 and values["tokens float32"] == 0
