"""The GRU's time loop with a leading replicate axis, forwards and backwards, as lstm.py has the LSTM's.

nn.GRU's equations (the reset gate acts on the recurrent product), gate order r, z, n. The backward pass keeps the gate
gradients of every time step and forms the weight gradient in one product, where nn.GRU on a CPU adds up one per step.
"""

import torch
from torch import Tensor

from memorization.backends.torch.products import batch_product


class Recurrence(torch.autograd.Function):
    """Hidden states of one layer, from a zero state."""

    @staticmethod
    def forward(ctx, inputs: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> Tensor:
        """[R, T, B, 3H] inputs' pre-activations, [R, 3H, H], [R, 3H] -> [R, T, B, H]."""
        units = weight_hh.shape[-1]
        shape = (*inputs.shape[:-1], units)
        both = inputs.new_empty(*shape[:-1], 2 * units)
        new, product, hidden = (inputs.new_empty(shape) for _ in range(3))
        transposed, bias = weight_hh.transpose(1, 2), bias_hh[:, None]
        before = inputs.new_zeros(inputs.shape[0], inputs.shape[2], units)
        for t in range(inputs.shape[1]):
            recurrent = torch.baddbmm(bias, before, transposed)
            gates = torch.add(inputs[:, t, :, : 2 * units], recurrent[..., : 2 * units]).sigmoid_()
            product[:, t] = recurrent[..., 2 * units :]
            now = torch.addcmul(inputs[:, t, :, 2 * units :], gates[..., :units], recurrent[..., 2 * units :]).tanh_()
            before = torch.lerp(now, before, gates[..., units:])
            both[:, t], new[:, t], hidden[:, t] = gates, now, before
        ctx.save_for_backward(weight_hh, both, new, product, hidden)
        return hidden

    @staticmethod
    def backward(ctx, grad: Tensor):
        weight_hh, gates, new, product, hidden = ctx.saved_tensors
        units = weight_hh.shape[-1]
        reset, update = gates[..., :units], gates[..., units:]
        before = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], dim=1)
        # What turns dL/d(hidden) into gradients of the new and the update gate's pre-activations, and the new gate's
        # into the reset gate's: no recurrence in them, so for all steps at once.
        of_new = (1 - update) * (1 - new.square())
        of_update = (before - new) * update * (1 - update)
        of_reset = product * reset * (1 - reset)
        recurrent = torch.empty(*hidden.shape[:-1], 3 * units, dtype=hidden.dtype, device=hidden.device)
        d_new = torch.empty_like(hidden)
        d_hidden = torch.zeros_like(grad[:, 0])
        for t in range(grad.shape[1] - 1, -1, -1):
            d_hidden = d_hidden + grad[:, t]
            torch.mul(d_hidden, of_new[:, t], out=d_new[:, t])
            torch.mul(d_new[:, t], of_reset[:, t], out=recurrent[:, t, :, :units])
            torch.mul(d_hidden, of_update[:, t], out=recurrent[:, t, :, units : 2 * units])
            torch.mul(d_new[:, t], reset[:, t], out=recurrent[:, t, :, 2 * units :])
            d_hidden = torch.baddbmm(d_hidden * update[:, t], recurrent[:, t], weight_hh)
        d_inputs = torch.cat([recurrent[..., : 2 * units], d_new], dim=-1)
        rows = recurrent.flatten(1, 2)
        d_weight = batch_product(rows.transpose(1, 2), before.flatten(1, 2))
        return d_inputs, d_weight, rows.sum(1)
