"""Initial weights that are the same however the model is sharded, each drawn once."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.overrides import TorchFunctionMode

from alphadecay.modules import whole_shape
from train.system.cpu_count import cores_of_rank

Shape = tuple[int, ...]

# In-place fills of torch.Tensor and torch.nn.init that draw every element.
_RANDOM_FILLS = frozenset(
    {
        "kaiming_normal_",
        "kaiming_uniform_",
        "normal_",
        "trunc_normal_",
        "uniform_",
        "xavier_normal_",
        "xavier_uniform_",
    }
)


class SkipRandomFills(TorchFunctionMode):
    """Leaves the parameters that are made within it as they lie in memory, where chance would fill.

    torch draws each weight when a layer is made, and transformers once more; `initialise` draws
    them all a third time. At 58 M parameters the first two take 0.7 s of a core.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call `function`, unless it fills a parameter at random."""
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in _RANDOM_FILLS:
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return function(*args, **kwargs)


def initialise(module: nn.Module, std_of: Callable[[str], float], seed: int) -> None:
    """Fill in normal weights, gains of one and biases of zero, each from a generator of its own.

    Under zero.Init transformers' own initialisation sees empty parameters and leaves torch's
    defaults. Collective there.

    Args:
        std_of: from the name of a weight to its standard deviation.
    """
    parameters = dict(module.named_parameters())
    shapes = {name: whole_shape(parameter) for name, parameter in parameters.items()}
    matrices = {name: shape for name, shape in shapes.items() if len(shape) > 1}
    drawn = _drawn_in_order(matrices, std_of, seed)
    with torch.no_grad():
        for name, parameter in parameters.items():
            with Gathered(parameter) as writes:
                if not writes:
                    continue
                if name in matrices:
                    put_whole(parameter, next(drawn))
                else:
                    parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def put_whole(parameter: nn.Parameter, whole: Tensor) -> None:
    """Write the values, or this rank's shard of them: every rank has drawn them all."""
    if isinstance(parameter, DTensor):
        mesh, placements = parameter.device_mesh, parameter.placements
        shard = distribute_tensor(whole, mesh, placements, src_data_rank=None)  # nothing is sent
        parameter.to_local().copy_(shard.to_local())
    else:
        parameter.copy_(whole)


class Gathered:
    """Holds the parameter whole on rank 0 and writes it back to its owners at the end.

    Entering gives True on ranks that are to write.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self._partitioned = hasattr(parameter, "ds_tensor")
        self._context: AbstractContextManager[Any] = nullcontext()
        if self._partitioned:
            import deepspeed

            self._context = deepspeed.zero.GatheredParameters([parameter], modifier_rank=0)

    def __enter__(self) -> bool:
        self._context.__enter__()
        return not self._partitioned or torch.distributed.get_rank() == 0

    def __exit__(self, *exc: Any) -> None:
        self._context.__exit__(*exc)


def _drawn_in_order(
    shapes: Mapping[str, Shape], std_of: Callable[[str], float], seed: int
) -> Iterator[Tensor]:
    """Yield the values of each parameter in order.

    Threads draw ahead, a parameter each, for torch fills from one generator on one core. As many
    parameters as there are threads are in memory.
    """
    threads = cores_of_rank()
    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for name, shape in shapes.items():
            waiting.append(pool.submit(_draw, name, shape, std_of(name), seed))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _draw(name: str, shape: Shape, std: float, seed: int) -> Tensor:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(shape, generator=generator).mul_(std)
