"""The matrix products of training, in float32 or of operands rounded to bfloat16 (training.precision).

Rounded or not, products are accumulated and returned in float32. On a GPU rounded operands are bfloat16 tensors and go
to its bfloat16 units; elsewhere they are float32 tensors with bfloat16 values, so that a CPU computes the same numbers
up to the order of sums (and, without such units, no faster). A CPU that has them (AMX, avx512_bf16) is allowed to use
them through oneDNN: its own rounding then changes nothing more.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from memorization.errors import UserError

Operand = Callable[[Tensor], Tensor]
"""What a tensor becomes before it is multiplied."""


def exact(tensor: Tensor) -> Tensor:
    """Float32 as it is."""
    return tensor


def rounded(tensor: Tensor) -> Tensor:
    """To the nearest bfloat16 (8 significant bits)."""
    short = tensor.to(torch.bfloat16)
    return short if tensor.is_cuda else short.to(tensor.dtype)


def batch_product(a: Tensor, b: Tensor) -> Tensor:
    """Batched product over replicates; a plain one for R = 1 (on a CPU up to twice as quick)."""
    if a.dtype == torch.bfloat16:
        return torch.bmm(a, b, out_dtype=torch.float32)
    return (a[0] @ b[0])[None] if len(a) == 1 else torch.bmm(a, b)


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """[N, I] a, [I, O] b, [O] bias -> [N, O]."""
    if a.dtype == torch.bfloat16:
        result = torch.mm(a, b, out_dtype=torch.float32)
        return result if bias is None else result.add_(bias)
    return a @ b if bias is None else torch.addmm(bias, a, b)


def project(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[R, N, I] inputs, [R, O, I] weight, [R, O] bias -> [R, N, O]."""
    if len(inputs) == 1:
        # Not inputs[0], whose gradient would be copied into a tensor of zeros.
        return functional.linear(inputs.squeeze(0), weight.squeeze(0), bias.squeeze(0)).unsqueeze(0)
    return torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2))


def project_into(out: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`project` into `out` [R, N, O], which is contiguous."""
    if inputs.dtype == torch.bfloat16:
        torch.bmm(inputs, weight.transpose(1, 2), out_dtype=out.dtype, out=out).add_(bias[:, None])
    elif len(inputs) == 1:
        torch.addmm(bias[0], inputs[0], weight[0].T, out=out[0])
    else:
        torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2), out=out)
    return out


def _add_short(base: Tensor, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """base + a b of bfloat16 operands, into float32 `out`."""
    # torch.baddbmm with out_dtype adds to `out`, whatever its first argument is.
    if out is not base:
        out.copy_(base)
    product = torch.addmm if a.dim() == 2 else torch.baddbmm
    return product(out, a, b, out_dtype=out.dtype, out=out)


def adder(weight: Tensor) -> Callable[..., Tensor]:
    """(base, a, weight, out=) -> base + a weight, for a time loop over this weight of two or three axes."""
    if weight.dtype == torch.bfloat16:
        return _add_short
    return torch.addmm if weight.dim() == 2 else torch.baddbmm


class _RoundedProjection(torch.autograd.Function):
    """`project` with rounded operands, in its backward pass too."""

    @staticmethod
    def forward(ctx, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        inputs, weight = rounded(inputs), rounded(weight)
        ctx.save_for_backward(inputs, weight)
        return project_into(bias.new_empty(*inputs.shape[:-1], weight.shape[1]), inputs, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor):
        inputs, weight = ctx.saved_tensors
        short = rounded(grad)
        return batch_product(short, weight), batch_product(short.transpose(1, 2), inputs), grad.sum(1)


def differentiable_project(inputs: Tensor, weight: Tensor, bias: Tensor, operand: Operand) -> Tensor:
    """`project` of `operand`'s operands, for autograd: float32 products are differentiated by torch itself."""
    if operand is exact:
        return project(inputs, weight, bias)
    return _RoundedProjection.apply(inputs, weight, bias)


def require_able(precision: str, device: torch.device) -> None:
    """Raises UserError for a precision that `device` does not have."""
    if precision == "tf32" and device.type != "cuda":
        raise UserError(
            f"training.precision tf32: only a GPU has it, and the device is {device.type}; use float32 or bfloat16"
        )


def _switches(precision: str, device: torch.device) -> list[tuple[object, str]]:
    """torch's own switches for a precision on a device: object with fp32_precision -> value."""
    if device.type == "cuda" and precision == "tf32":
        return [(torch.backends.cuda.matmul, "tf32")]
    if device.type == "cpu" and precision == "bfloat16" and has_bfloat16_units():
        return [(torch.backends.mkldnn.matmul, "bf16")]
    return []


def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """torch's switches as `precision` wants them, and as they were afterwards: measuring stays in float32."""
    before = [(where, where.fp32_precision) for where, _ in _switches(precision, device)]
    for where, value in _switches(precision, device):
        where.fp32_precision = value
    try:
        yield
    finally:
        for where, value in before:
            where.fp32_precision = value
