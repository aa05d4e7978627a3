"""The benchmark of what runs the encoder: all ways give the same tokens."""

import pytest

from benchmarks.speed import encoder


@pytest.mark.slow
def test_every_way_to_run_the_encoder_gives_its_tokens(read, tmp_path, monkeypatch):
    # torch.compile needs a C++ compiler, which a user may lack
    monkeypatch.setattr(encoder, "WAYS", {key: make for key, make in encoder.WAYS.items() if key[0] != "torch.compile"})
    assert encoder.guard(encoder.main)(["--side", "80", "--repeats", "1", "--out", str(tmp_path)]) == 0
    rows = read("encoder")
    assert {("torch", "float32"), ("torch", "bfloat16"), ("ONNX Runtime", "float32")} <= {
        (row["run by"], row["precision"]) for row in rows
    }
    lines = [line.split(" | ") for line in (tmp_path / "encoder.md").read_text().splitlines() if line.startswith("| ")]
    differences = {line[0].strip("| "): float(line[-1].strip("| ")) for line in lines[1:] if line[1] == "float32"}
    assert max(differences.values()) < 1e-4
