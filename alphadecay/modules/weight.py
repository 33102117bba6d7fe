"""One module: a matrix inside a parameter; and the names and shapes of parameters.

Shapes: M rows, N columns of the matrix, L elements of a period. A parameter that ZeRO-3 has
    partitioned has shape (0,); its whole shape is `ds_shape`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor, nn

_WRAPPER_PARTS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module"
    r"|_forward_module)\."
)
_BIAS = re.compile(r"(?:^|.*[._])bias(?:_[kv])?$")  # bias_k, bias_v: of nn.MultiheadAttention


@dataclass(frozen=True, eq=False)
class WeightModule:
    """This is one matrix whose spectrum sets one decay: a parameter, a named block of its rows or
    columns, or rows or columns that alternate with others.

    The parameter, flattened, is read as periods of `row_length` elements. The matrix takes the
    elements `columns` of each period in `rows`, and has `width` of them a row.

    Args:
        name: the parameter's name in the bare model, with the part in brackets where it is split.
        parameter: the parameter, whole, partitioned or sharded.
        row_length: elements of a period: a row of the parameter, where nothing alternates.
        rows: first and last period + 1, counted over the flattened leading axes (experts stacked
            first).
        columns: first and last element + 1 of a period.
        width: columns of the matrix; 0 for those of a period.
        kernel: positions of a convolution's kernel whose matrices [O, I] are taken apart, as in
            the published code; 1 for one matrix.
    """

    name: str
    parameter: nn.Parameter
    row_length: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    width: int = 0
    kernel: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Return (M, N) of the matrix."""
        held = self.columns[1] - self.columns[0]
        width = self.width or held
        return (self.rows[1] - self.rows[0]) * held // width, width

    @property
    def flat_range(self) -> tuple[int, int]:
        """Return the elements [start, stop) of the row-major parameter that hold the matrix: whole
        periods.
        """
        return self.rows[0] * self.row_length, self.rows[1] * self.row_length

    def matrix(self, flat: Tensor) -> Tensor:
        """Return the matrix [M, N] in the elements of `flat_range`, shape [stop - start]; a copy
        where its rows or columns alternate with others.
        """
        held = flat.view(-1, self.row_length)[:, self.columns[0] : self.columns[1]]
        return held.reshape(self.shape) if self.width else held


def whole_shape(parameter: Tensor) -> tuple[int, ...]:
    """Return the parameter's shape before any sharding (ZeRO-3 keeps it as `ds_shape`; a DTensor's
    shape is global already).
    """
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def bare_name(name: str) -> str:
    """Return a parameter's name in the bare model: without what DDP, torch.compile, FSDP1,
    Lightning and checkpoint wrappers put in.
    """
    return _WRAPPER_PARTS.sub("", name)


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return bare name -> parameter, tied parameters once, in the model's order.

    Raises:
        ValueError: two parameters have one bare name.
    """
    full_names: dict[str, str] = {}
    parameters: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        bare = bare_name(name)
        if bare in parameters:
            raise ValueError(
                f"the weights {full_names[bare]} and {name} have one name without their wrappers, "
                f"{bare}: rename the attribute that wrappers use too (module, _orig_mod)"
            )
        full_names[bare] = name
        parameters[bare] = parameter
    return parameters


def is_exempt(name: str, parameter: nn.Parameter) -> bool:
    """Return whether a parameter is a gain or a bias, which the default mode does not decay: fewer
    than two axes, or a bias by name, such as one row for each expert.
    """
    return len(whole_shape(parameter)) < 2 or _BIAS.match(name) is not None


def exempt_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the gains and biases of a model."""
    return [p for name, p in model.named_parameters() if is_exempt(name, p)]


def refuse_complex(name: str, parameter: nn.Parameter) -> None:
    """Refuse a complex weight, whose spectrum the paper does not speak of.

    Raises:
        ValueError: it is one.
    """
    if parameter.is_complex():
        raise ValueError(
            f"{name} is {parameter.dtype}: an alpha is fitted to real matrices; leave it at the "
            f"base decay with exclude=[{name!r}]"
        )
