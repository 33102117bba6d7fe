"""A row of the table, and the table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

FIT = (2.0, 6.0)  # of alpha: see `source`
FIT_SOURCE = (
    "Martin and Mahoney, Journal of Machine Learning Research 22 (2021), and Martin, Peng and "
    "Mahoney, Nature Communications 12 (2021): layers of well-trained models have 2 to 6"
)


@dataclass(frozen=True)
class Row:
    """This is what the table says of a weight.

    A number that there is none of is NaN.

    Args:
        name: of the matrix.
        layer: its number; -1 where its name has none.
        type: what it is in its layer.
        shape: rows and columns.
        parameters: their product.
        alpha: PL_Alpha of the tail.
        ks_distance: Kolmogorov-Smirnov distance of the fit.
        tail_count: eigenvalues in the tail.
        eigenvalue_count: all of them.
        x_min: where the tail begins, in the unit of the weight, squared.
        stable_rank: sum of the eigenvalues over the largest.
        alpha_hat: alpha times log10 of the largest eigenvalue.
        spectral_norm: root of the largest eigenvalue.
        frobenius_norm: root of their sum.
        entropy: of the eigenvalues' shares, in [0, 1].
        status: "ok", or why there is no alpha.
        takes_part: whether AlphaDecay gives it a decay of its own.
        ratio: its multiple of the base decay.
        decay: its weight decay.
        beyond_shuffled: eigenvalues above the shuffled copy's and the bulk of a random matrix;
            None where no copy was made.
        traps: eigenvalues of the shuffled copy above the bulk of a random matrix; None as above.
        note: what a reader should know of how it was taken; empty mostly.
    """

    name: str
    layer: int
    type: str
    shape: tuple[int, int]
    parameters: int
    alpha: float
    ks_distance: float
    tail_count: int
    eigenvalue_count: int
    x_min: float
    stable_rank: float
    alpha_hat: float
    spectral_norm: float
    frobenius_norm: float
    entropy: float
    status: str
    takes_part: bool = True
    ratio: float = math.nan
    decay: float = math.nan
    beyond_shuffled: int | None = None
    traps: int | None = None
    note: str = ""

    @property
    def is_outside(self) -> bool:
        """Return whether alpha lies outside 2 to 6."""
        return math.isfinite(self.alpha) and not FIT[0] <= self.alpha <= FIT[1]

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold: null for a number that there is none of."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """Return the row that `as_dict` made.

        Raises:
            TypeError, ValueError: it made none like that.
        """
        kinds = {one.name: one.type for one in fields(cls)}
        made: dict[str, Any] = {
            name: math.nan if value is None and kinds[name] == "float" else value
            for name, value in values.items()
            if name in kinds
        }
        rows, columns = made["shape"]
        return cls(**{**made, "shape": (int(rows), int(columns))})


@dataclass(frozen=True)
class Analysis(Sequence[Row]):
    """This is the table of a model: its rows, and what is said of the whole.

    Args:
        model: where it was read from.
        form: what that is.
        rows: in the model's order.
        quality: measures of the whole model by name.
        set_aside: what could not be measured -> why.
        left_out: what is not measured by rule -> why.
        warnings: sentences for the user.
        settings: what it was measured with.
    """

    model: str
    form: str
    rows: tuple[Row, ...]
    quality: Mapping[str, float]
    set_aside: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, key: Any) -> Any:
        """Return a row by its place, or by its weight's name.

        Raises:
            KeyError, IndexError: there is none.
        """
        if isinstance(key, str):
            found = next((row for row in self.rows if row.name == key), None)
            if found is None:
                raise KeyError(key)
            return found
        return self.rows[key]

    @property
    def outside(self) -> list[Row]:
        """Return the rows whose alpha lies outside 2 to 6, the farthest first."""
        middle = sum(FIT) / 2
        found = [row for row in self.rows if row.is_outside]
        return sorted(found, key=lambda row: -abs(row.alpha - middle))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        return {
            "model": self.model,
            "form": self.form,
            "settings": dict(self.settings),
            "quality": {name: _plain(value) for name, value in self.quality.items()},
            "outside_2_to_6": [row.name for row in self.outside],
            "weights": [row.as_dict() for row in self.rows],
            "set_aside": dict(self.set_aside),
            "left_out": dict(self.left_out),
            "warnings": list(self.warnings),
        }

    def to_csv(self) -> str:
        """Return the rows as CSV, with a line of names; empty for a number there is none of."""
        text = io.StringIO()
        names = [one.name for one in fields(Row)]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            shape = "x".join(map(str, row.shape))
            writer.writerow({**row.as_dict(), "shape": shape})
        return text.getvalue()

    def to_pandas(self) -> Any:
        """Return the rows as a DataFrame of pandas, which has to be installed."""
        from alphadecay.inspect.analysis.pandas_frame import to_frame

        return to_frame([asdict(row) for row in self.rows])


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value
