import pytest
import torch
import torch.nn.functional as F

from rlhf_hw.models.cpu_speed import LinearByOneDNN, keep_freed_memory


def test_freed_memory_is_kept_where_the_system_can() -> None:
    assert keep_freed_memory() in (True, False)


@pytest.mark.parametrize("shape", [(7, 32), (2, 5, 32), (1, 32), (0, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_torch(shape, bias) -> None:
    layer, inputs = torch.nn.Linear(32, 24, bias=bias), torch.randn(shape)
    with torch.no_grad():
        expected = layer(inputs)
        with LinearByOneDNN():
            found = layer(inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_what_it_does_not_touch() -> None:
    layer, inputs = torch.nn.Linear(32, 24), torch.randn(3, 32)
    with LinearByOneDNN():
        layer(inputs).sum().backward()  # with gradients: torch's own
        assert layer.weight.grad is not None
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(inputs).dtype == torch.bfloat16
        with torch.no_grad():
            assert torch.equal(F.linear(inputs, weight=layer.weight), inputs @ layer.weight.T)


def test_a_row_has_the_same_result_in_any_batch() -> None:
    layer, inputs = torch.nn.Linear(320, 200), torch.randn(70, 320)
    with torch.no_grad(), LinearByOneDNN():
        everything = layer(inputs)
        for count in (1, 2, 3, 17, 64):
            assert torch.equal(layer(inputs[:count]), everything[:count]), count
