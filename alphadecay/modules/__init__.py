"""Which weights of a model are modules, under what names, and why the others are none."""

from alphadecay.modules.choose import (
    Choice,
    NoModules,
    choose_modules,
    find_head,
    find_modules,
)
from alphadecay.modules.places import Places
from alphadecay.modules.weight import (
    WeightModule,
    bare_name,
    exempt_parameters,
    is_exempt,
    named_parameters,
    whole_shape,
)

__all__ = [
    "Choice",
    "NoModules",
    "Places",
    "WeightModule",
    "bare_name",
    "choose_modules",
    "exempt_parameters",
    "find_head",
    "find_modules",
    "is_exempt",
    "named_parameters",
    "whole_shape",
]
