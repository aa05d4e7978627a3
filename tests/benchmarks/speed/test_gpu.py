"""The GPU script, on the CPU."""

from benchmarks.speed import gpu


def test_the_gpu_script_runs_on_the_cpu(read, tmp_path):
    arguments = ["--device", "cpu", "--side", "160", "--fovs", "2", "--repeats", "1", "--points", "1000"]
    assert gpu.guard(gpu.main)([*arguments, "--out", str(tmp_path)]) == 0
    rows = read("gpu")
    values = {row["what"]: float(row["value"]) for row in rows if row["group"] == "parity"}
    assert values["sccs_fast superpixels"] == values["assignment"] == 1 and values["tokens float32"] == 0
    assert all(values[f"{system} clusters"] >= 0.995 for system in gpu.SYSTEMS)
    steps = {row["group"] for row in rows if row["group"].startswith("steps")}
    assert steps == {"steps CPU, compiled", "steps tensors, 1", "steps tensors, 2"}
    assert {row["what"] for row in rows if row["group"] == "whole tensors"} == {
        f"{s} {n}" for s in gpu.SYSTEMS for n in (1, 2)
    }
