"""What `compat="published"` reproduces, in one place and in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PUBLISHED_DEVIATIONS: Mapping[str, str] = MappingProxyType(
    {
        "tail index": (
            "The tail is λ[int(n/2):] and counts its own cut-off, one eigenvalue above the "
            "paper's, so α is a little higher."
        ),
        "minimum of 50 eigenvalues": (
            "A matrix with fewer than 50 eigenvalues keeps the base decay; the default asks for 8."
        ),
        "first Linear dropped": (
            "The first Linear, layers.0.self_attn.q_proj in LLaMA, keeps the base decay; an "
            "embedding is no Linear."
        ),
        "convolutions": (
            "Each Conv2d is a module: the eigenvalues of the [O, I] matrices of all positions of "
            "its kernel, halved, make one spectrum; the default leaves convolutions out, and takes "
            "[O, I·kh·kw] where include names them."
        ),
        "nothing exempt from decay": (
            "Gains and biases decay at the base rate, as embeddings and the head do; the "
            "default exempts them."
        ),
        "fix-finger's window": (
            "Its lower end is log10(0.95·peak), a logarithm compared with eigenvalues; the "
            "default uses 0.95·peak."
        ),
        "no filtering of zeros": (
            "Goodness-of-fit and fix-finger also search numerically zero eigenvalues; the "
            "default leaves them out."
        ),
        "norms without a root": (
            "The scores named Frobenius and spectral norm are squared norms, Σλ and λmax."
        ),
        "entropy": ("6e-5 is added to every eigenvalue's share without normalising again."),
        "alpha-hat softplus": (
            "alpha-hat is softplus(α·log10 λmax) with the published tail index; the default "
            "is α·log10 λmax."
        ),
    }
)
