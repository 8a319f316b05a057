"""Questions to a person on the terminal. Without a terminal, an uncertain choice needs an option or --yes."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nightly.io.hints import did_you_mean
from nightly.new_model.errors import NewModelError


def _on_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


@dataclass
class Questions:
    """Asks about uncertain choices.

    :ivar yes: accept every proposal
    :ivar is_terminal: whether a person can answer
    """

    yes: bool = False
    is_terminal: bool = field(default_factory=_on_a_terminal)
    read: Callable[[str], str] = input
    show: Callable[[str], None] = print

    def choose(self, what: str, proposal: str, why: str, *, options: Sequence[str], option: str) -> str:
        """Return one of `options`, by default the proposal.

        Raises NewModelError if there is no terminal.

        :param what: the subject of the question, such as "the label"
        :param why: the reason for the proposal
        :param option: the command's option that answers the question
        """
        if self.yes:
            return proposal
        if not self.is_terminal:
            raise NewModelError(
                f"{what}: likely {proposal!r} ({why}), but that is not certain: choose with {option}, or accept every "
                "proposal with --yes"
            )
        while True:
            answer = self._answer(f"{what}? {why} [{proposal}] ")
            if not answer or answer in options:
                return answer or proposal
            self.show(f"  {answer!r} is not there{did_you_mean(answer, options)}")

    def confirm(self, question: str, *, default: bool) -> bool:
        """Return whether the answer is yes. Without a person it is the default, which has to be safe."""
        if self.yes or not self.is_terminal:
            return default
        while True:
            answer = self._answer(f"{question} [{'Y/n' if default else 'y/N'}] ").lower()
            if answer in ("", "y", "yes", "n", "no"):
                return answer.startswith("y") if answer else default

    def _answer(self, prompt: str) -> str:
        try:
            return self.read(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            raise NewModelError("stopped before all questions were answered: nothing is written") from None
