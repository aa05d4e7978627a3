"""Which number format an encoder computes in."""

import pytest
import torch

from registry.mae.precision import multiplies_bfloat16, uses_bfloat16

ASKED = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")


@pytest.fixture
def processor(monkeypatch):
    """A processor that supports the given instructions only."""

    def supports(*names):
        for name in ASKED:
            monkeypatch.setattr(torch.cpu, name, lambda name=name: name in names, raising=False)

    return supports


@pytest.mark.parametrize("names", [ASKED[:1], ASKED[1:], ASKED])
def test_either_kind_of_instruction_will_do(processor, names):
    processor(*names)
    assert multiplies_bfloat16("cpu") is True and uses_bfloat16("auto", "cpu")


def test_a_processor_without_both_computes_in_single_precision_unless_told_to(processor):
    processor()
    assert multiplies_bfloat16("cpu") is False and not uses_bfloat16("auto", "cpu")
    assert uses_bfloat16("bfloat16", "cpu") and not uses_bfloat16("float32", "cpu")


def test_a_torch_that_cannot_be_asked_has_neither(monkeypatch):
    for name in ASKED:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert multiplies_bfloat16("cpu") is False
