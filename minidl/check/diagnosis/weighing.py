"""Which hypotheses are credible, and what they explain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from minidl.check.diagnosis.evidence import Hypothesis, Tensor, is_backward, kind_of

TRUE = 0.85  # the share of its predictions that a named variant gets right
SURE = 0.95  # the same where it says much
STATEFUL = ("batch_norm", "mode_norm")
LEAST = 12  # outputs and gradients that a cause explains, where it says wrong things of the running statistics
ENDED = 0.5  # of the gradients that a cause explains where all that is seen of it is not finite
FEW = 5  # wrong predictions, beyond which it must be SURE


@dataclass
class Cause:
    """One cause: variants that say the same of every case, and the outputs they explain."""

    rivals: list[Hypothesis]
    hits: set[Tensor]

    @property
    def name(self) -> str:
        """The names of the variants."""
        return " or ".join(dict.fromkeys(rival.variant.name for rival in self.rivals))


def credible(hypothesis: Hypothesis, wrong: set[Tensor]) -> bool:
    """Whether what a hypothesis says is nearly always true, at least of the forward pass, or of a part of the layer.

    That both raise is no evidence by itself, unless it is said of just the cases that raise; nor is that both end in
    NaN or infinity, unless they do in the gradients too.
    """
    if all(name == "raised" for _, name in hypothesis.hits):
        return not hypothesis.misses and {at for at in wrong if at[1] == "raised"} <= hypothesis.hits
    if {i for i, _ in hypothesis.hits} <= hypothesis.ended:
        gradients = {at for at in wrong if at[0] in hypothesis.ended and is_backward(at[1])}
        if len(gradients & hypothesis.hits) < ENDED * len(gradients):
            return False
    if hypothesis.precision >= (TRUE if len(hypothesis.misses) <= FEW else SURE):
        return True
    forward = sum(not is_backward(name) for _, name in hypothesis.hits)
    return (forward >= 3 and hypothesis.forward_precision >= TRUE) or of_a_part(hypothesis, wrong)


def of_a_part(hypothesis: Hypothesis, wrong: set[Tensor]) -> bool:
    """Whether a hypothesis explains some outputs wholly, and what it says wrongly is of another part of the layer.

    A bug may be in training alone, or in evaluation, or in the running statistics; beside it another may be in other
    gradients, which are then wrong, too.
    """
    hits, misses, all_wrong = (
        Counter(kind_of(name) for _, name in of) for of in (hypothesis.hits, hypothesis.misses, wrong)
    )
    whole = {k for k in hits if hits[k] >= TRUE * (hits[k] + misses[k]) and hits[k] >= 0.9 * all_wrong[k]}
    told, missed, asked = (sum(of[k] for k in of if k.startswith("out.")) for of in (hits, misses, all_wrong))
    if (
        hypothesis.variant.layer in STATEFUL
        and hits["out.y"]
        and told >= max(LEAST, SURE * (told + missed), SURE * asked)
    ):
        return True  # y of training and its gradients are explained: what becomes of it is another matter
    if sum(hits[k] for k in whole) < 4 or whole != set(hits):
        return False
    parts = {kind.partition(".")[0] for kind in whole}
    for kind in misses:
        if kind in whole:
            continue
        right = sum(kind_of(name) == kind for _, name in hypothesis.misses - wrong)
        part = kind.partition(".")[0]
        elsewhere = part not in parts and (part == "eval" or right == misses[kind])
        also_wrong = is_backward(kind + ".0") and right <= 0.1 * misses[kind]
        if not elsewhere and not also_wrong:
            return False
    return True


def covered(hypothesis: Hypothesis, wrong: set[Tensor]) -> set[Tensor]:
    """The wrong outputs that a hypothesis predicts, and the few of the same kinds in which rounding hides the cause."""
    hits, misses = hypothesis.hits & wrong, hypothesis.misses & wrong
    counts = Counter(kind_of(name) for _, name in hits)
    lost = Counter(kind_of(name) for _, name in misses)
    known = {kind for kind in counts if counts[kind] >= 4 * lost[kind]}
    mostly, not_at_all = Counter(i for i, _ in hits), Counter(i for i, _ in misses)
    ended = {tensor for tensor in wrong if tensor[0] in hypothesis.ended}
    return (
        hits
        | ended
        | {tensor for tensor in misses if kind_of(tensor[1]) in known or mostly[tensor[0]] >= 2 * not_at_all[tensor[0]]}
    )


def whole_cases(cause: Cause, wrong: set[Tensor]) -> set[int]:
    """The cases of which a cause explains every wrong output."""
    return {i for i, _ in cause.hits} - {i for i, _ in wrong - cause.hits}
