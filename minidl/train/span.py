"""A length of training: in epochs, updates, touches or a share of the run."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 10**15  # epochs, updates or touches


class ConfigError(ValueError):
    """A configuration that cannot be run; its message is one line that names the cure."""

    exit_status = 2


@dataclass(frozen=True)
class Span:
    """A stretch of training, in epochs, updates, data touches or as a share of the run.

    Written `15e` (epochs), `50000u` (updates), `3500000` or `3.5M` or `900k` (touches: training images seen, repeats
    counted) or `5/7` (that share of the run).

    Examples
    --------
    >>> Span.parse("15e").updates(batches=10, batch_size=32)
    150
    >>> Span.parse("2.5k").updates(batches=10, batch_size=32)
    79
    >>> Span.parse("5/7").updates(batches=10, batch_size=32, total=700)
    500
    """

    amount: Fraction
    unit: str  # "epochs", "updates", "touches" or "share"

    @classmethod
    def parse(cls, text: str) -> "Span":
        """Read a span from its text form."""
        number = r"(?:\d+\.?\d*|\.\d+)(?:[eE]\+?\d{1,2})?"
        if match := re.fullmatch(rf"({number})([eukM]?)", text.strip()):
            amount = Fraction(match[1]) * {"k": 1000, "M": 1000_000}.get(match[2], 1)
            if amount > LONGEST:
                raise ConfigError(
                    f"a span of training must be at most {LONGEST:.0e}, got {text.strip()[:30]}; lower it"
                )
            return cls(amount, {"e": "epochs", "u": "updates"}.get(match[2], "touches"))
        if (match := re.fullmatch(r"(\d+)/(\d+)", text.strip())) and int(match[2]):
            return cls(Fraction(int(match[1]), int(match[2])), "share")
        raise ConfigError(
            f"{text!r} is no span of training; write 15e (epochs), 50000u (updates), 2.5M (touches) or 5/7 (of the run)"
        )

    def updates(self, batches: int, batch_size: int, total: int = 0) -> int:
        """Return the number of updates until this span has passed.

        Parameters
        ----------
        batches : int
            Batches in an epoch.
        batch_size : int
            Images in a batch.
        total : int
            Updates in the run; only a share needs it.
        """
        scale = {
            "epochs": Fraction(batches),
            "updates": Fraction(1),
            "touches": Fraction(1, batch_size),
            "share": Fraction(total),
        }
        return math.ceil(self.amount * scale[self.unit])
