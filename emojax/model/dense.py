"""The projection of every tower: a kernel that may be int8, an optional LoRA adapter, a bias."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.dropout import dropout
from emojax.sharding import gather_embed, partitioned, platform

Array = jax.Array
Axes = tuple[str | None, str | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021): y = W x + (alpha / rank) B A dropout(x).

    Defaults are those of Emotion-LLaMA v1 and v2.

    Attributes:
      rank: R; 0 means no adapters.
      alpha: scale of the update.
      dropout: rate on the adapter's input.
      targets: regular expressions, each matched against a projection's whole name (q, k, v, o,
        gate, up, down).
    """

    rank: int = 64
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q", "v")

    def covers(self, projection: str) -> bool:
        """Whether the projection of this name has an adapter."""
        return self.rank > 0 and any(re.fullmatch(t, projection) for t in self.targets)


@dataclasses.dataclass(frozen=True)
class Precision:
    """Number formats; norms, softmax and loss are always float32.

    Attributes:
      compute: dtype of activations and matmuls.
      params: dtype of stored parameters.
      kernels: "int8" stores the kernels of transformer blocks and of the output head as int8 with
        one float32 scale per output channel (weights only, see quantize.py). Such kernels cannot be
        trained.
    """

    compute: str = "float32"
    params: str = "float32"
    kernels: Literal["float", "int8"] = "float"


FLOAT32 = Precision()
RELEASED_LORA = LoraConfig()


def torch_uniform(fan_in: int) -> Callable[..., Array]:
    """Torch's initialisation of Linear and Conv1d, weight and bias: uniform in +-1/sqrt(fan_in)."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def _random_int8(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.randint(key, shape, -127, 128, dtype)


class Dense(nn.Module):
    """float[..., D_in] -> float[..., features]; an adapter's parameters are in collection `lora`.

    Attributes:
      features: width of the output.
      axes: logical axes of the kernel [D_in, features].
      use_bias: whether there is a bias.
      precision: number formats.
      lora: the adapter; None for none.
      init_kind: "normal" (scaled to the fan-in) for towers trained from scratch, "torch" for the
        projectors and the fusion.
      kernel_init: replaces the initialiser of `init_kind`.
      quantizable: whether the kernel is stored in the format `precision.kernels`, otherwise as
        floats.
      heads: N > 0 gives float[..., N, features / N].
    """

    features: int
    axes: Axes = ("embed", None)
    use_bias: bool = True
    precision: Precision = FLOAT32
    lora: LoraConfig | None = None
    init_kind: str = "normal"
    kernel_init: Callable[..., Any] | None = None
    quantizable: bool = False
    heads: int = 0

    @nn.compact
    def __call__(self, x: Array, deterministic: bool = True) -> Array:
        """Applies the projection; `deterministic` False enables the adapter's dropout."""
        dtype, d_in = jnp.dtype(self.precision.compute), x.shape[-1]
        x = x.astype(dtype)
        y = self._apply_kernel(x, dtype)
        if self.lora is not None:
            y = y + self._apply_lora(x, self.lora, dtype, deterministic=deterministic)
        if self.use_bias:
            bias_init = torch_uniform(d_in) if self.init_kind == "torch" else nn.initializers.zeros
            bias: Array = self.param(
                "bias",
                partitioned(bias_init, (self.axes[1],)),
                (self.features,),
                jnp.dtype(self.precision.params),
            )
            y = y + bias.astype(dtype).reshape(self._out_shape)
        return y

    @property
    def _out_shape(self) -> tuple[int, ...]:
        return (self.heads, self.features // self.heads) if self.heads else (self.features,)

    @nn.nowrap
    def _matmul(self, x: Array, kernel: Array) -> Array:
        if self.heads and platform() == "tpu":
            # Heads directly from the matmul: splitting them off afterwards costs a copy.
            return jnp.einsum("...d,dnh->...nh", x, kernel.reshape(-1, *self._out_shape))
        y = x @ kernel
        return y.reshape(*y.shape[:-1], *self._out_shape)

    @nn.nowrap
    def _apply_kernel(self, x: Array, dtype: Any) -> Array:
        d_in = x.shape[-1]
        shape = (d_in, self.features)
        if self.quantizable and self.precision.kernels == "int8":
            kernel: Array = self.param(
                "kernel", partitioned(_random_int8, self.axes), shape, jnp.int8
            )
            flat = nn.initializers.constant(3 * d_in**-0.5 / 127)
            scale: Array = self.param(
                "kernel_scale", partitioned(flat, (self.axes[1],)), (self.features,)
            )
            y = self._matmul(x, gather_embed(kernel, self.axes).astype(dtype))
            return y * scale.astype(dtype).reshape(self._out_shape)
        default = (
            torch_uniform(d_in) if self.init_kind == "torch" else nn.initializers.lecun_normal()
        )
        init = partitioned(self.kernel_init or default, self.axes)
        kernel = self.param("kernel", init, shape, jnp.dtype(self.precision.params))
        return self._matmul(x, gather_embed(kernel.astype(dtype), self.axes))

    @nn.nowrap
    def _apply_lora(self, x: Array, lora: LoraConfig, dtype: Any, *, deterministic: bool) -> Array:
        d_in = x.shape[-1]
        # Both ends are split under FSDP.
        ends = ["embed" if axis == "embed" else "adapter" for axis in self.axes]
        a_init = partitioned(torch_uniform(d_in), (ends[0], "rank"))
        b_init = partitioned(nn.initializers.zeros, ("rank", ends[1]))
        key = self.make_rng("params") if self.is_initializing() else None
        a = self.variable("lora", "a", lambda: a_init(key, (d_in, lora.rank), jnp.float32)).value
        b = self.variable(
            "lora", "b", lambda: b_init(key, (lora.rank, self.features), jnp.float32)
        ).value
        a = gather_embed(a.astype(dtype), (self.axes[0], None))
        b = gather_embed(b.astype(dtype), (None, self.axes[1]))
        if lora.dropout and not deterministic:
            x = dropout(x, lora.dropout, self.make_rng("dropout"))
        return self._matmul(x @ a, b) * (lora.alpha / lora.rank)


def merge_lora_kernel(kernel: Any, a: Any, b: Any, *, lora: LoraConfig) -> Any:
    """Merges an adapter into its kernel: W + (alpha / rank) A B, computed in float32.

    Args:
      kernel: float[..., D_in, D_out].
      a: float[..., D_in, R].
      b: float[..., R, D_out].
      lora: the adapter's rank and alpha.

    Returns:
      float[..., D_in, D_out] in the kernel's dtype.
    """
    change = (lora.alpha / max(1, lora.rank)) * (a.astype(np.float32) @ b.astype(np.float32))
    return (kernel.astype(np.float32) + change).astype(kernel.dtype)
