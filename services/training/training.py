"""Fine-tune a model and keep the weights that are best on the validation split."""

import ctypes
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, Protocol

import torch

from app.engines.runtimes import PROCESSORS, declared_flags
from services.common.domain.errors import PermanentError
from services.common.domain.texts import number_of
from services.common.domain.trained_models import Rates
from services.training.averaging import Average
from services.training.batches import epoch_batches, pictures
from services.training.checkpoint import CheckpointFile
from services.training.course import Course, Epoch
from services.training.lines import TrainingLine
from services.training.measuring import measure, read_lines
from services.training.plan import TrainingPlan, rate
from services.training.trainee import Trainee

LARGEST_GRADIENT = 1.0
TINY = 1_000_000
"""Parameters; smaller models are trained on one thread, as threads would mostly wait for each
other."""
RELEASE_STEPS = 2
"""Steps after which freed memory is returned: each of other widths takes more of it."""
SHOWN_STEPS = 50
"""Steps per shown mean loss."""


class ProgressDisplay(Protocol):
    """Shows a training."""

    def stage(self, words: str) -> None:
        """Show what begins, such as reading many lines."""

    def step(self, done: int, total: int, words: str) -> None:
        """Show the number of finished and of all steps, and a status text."""

    def epoch(self, words: str) -> None:
        """Show the result of an epoch."""


class DivergedError(PermanentError):
    """A training has no weights that are worth keeping."""

    code = "diverged"


class FineTuning:
    """Trains a model in place, resuming from a checkpoint (reproducible on one machine).

    Args:
        trainee: The model.
        train: Lines to learn from.
        validation: Lines to measure by after each epoch; none: the last epoch's weights are kept.
        plan: How to train.
        checkpoint: Where its state is kept meanwhile.
        progress: Shows its steps and epochs.
    """

    def __init__(
        self,
        trainee: Trainee,
        train: Sequence[TrainingLine],
        validation: Sequence[TrainingLine],
        plan: TrainingPlan,
        *,
        checkpoint: CheckpointFile,
        progress: ProgressDisplay,
    ) -> None:
        self._trainee, self._train, self._validation = trainee, train, validation
        self._plan, self._checkpoint, self._progress = plan, checkpoint, progress
        self._module = trainee.module.to(plan.device)
        if sum(each.numel() for each in self._module.parameters()) < TINY:
            torch.set_num_threads(1)
        groups = trainee.parameters()
        self._optimiser = torch.optim.AdamW(groups, lr=plan.learning_rate)
        self._average = Average([each for one in groups for each in one["params"]], plan.averaging)
        self._mixed = _mixed_precision(plan.device)
        self._course = Course()
        self._losses: list[float] = []
        self._seconds = 0.0
        self._best: dict[str, Any] = {}

    def run(self) -> Course:
        """Train to the end, and leave the best weights in the model.

        Raises:
            RefusedError: An image can't be decoded.
            OSError: The checkpoint can't be written.
            DivergedError: A loss is not finite, and no validation line tells earlier weights apart.
        """
        self._resume()
        if not self._best:
            self._begin()
        if not self._is_over:
            self._progress.stage(
                f"training on {number_of(len(self._train), 'line')} from epoch "
                f"{len(self._course.epochs) + 1} of {self._plan.epochs}"
            )
        while not self._is_over:
            self._run_epoch()
        if self._course.is_broken and not self._validation:
            self._checkpoint.delete()
            raise DivergedError(
                f"a loss or weight is not finite in epoch {len(self._course.epochs) + 1} of "
                f"{self._plan.epochs}: nothing was saved; train with a lower --learning-rate than "
                f"{self._plan.learning_rate:g}"
            )
        self._module.load_state_dict(self._best)
        self._module.to("cpu").eval()
        return self._course

    @property
    def _is_over(self) -> bool:
        """Whether all epochs are done, or early stopping applies."""
        done, since = len(self._course.epochs), self._course.lowest
        is_done = done >= self._plan.epochs or (done - since >= self._plan.patience)
        return is_done or self._course.is_broken

    def _resume(self) -> None:
        """Restore the state of a checkpoint, if any."""
        if (state := self._checkpoint.load()) is None:
            return
        self._module.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._average.restore(state["average"])
        self._best = state["best"]
        self._course = Course([Epoch(**each) for each in state["epochs"]], state["base_cer"])
        self._losses, self._seconds = state["losses"], state["seconds"]

    def _begin(self) -> None:
        """Measure the base, whose weights are kept unless an epoch reads better."""
        if self._validation:
            self._course.base_cer = self._measured().cer
        self._keep()

    def _keep(self) -> None:
        self._best = {name: each.clone() for name, each in self._module.state_dict().items()}

    def _measured(self) -> Rates:
        self._module.eval()
        return measure(read_lines(self._trainee.engine(), self._validation))

    def _run_epoch(self) -> None:
        """Run the remaining steps of an epoch, and measure."""
        number, plan = len(self._course.epochs), self._plan
        batches = epoch_batches(self._train, plan.batch, seed=plan.seed, epoch=number)
        self._trainee.parameters()
        for step in range(len(self._losses), len(batches)):
            started = time.monotonic()
            part = (number + step / len(batches)) / plan.epochs
            self._losses.append(self._step(batches[step], step, part, plan.epochs * len(batches)))
            self._seconds += time.monotonic() - started
            if not math.isfinite(self._losses[-1]):
                break
            done = number * len(batches) + step + 1
            self._progress.step(done, plan.epochs * len(batches), self._in_words())
            if step % RELEASE_STEPS == 0:
                _release_memory()
            if self._checkpoint.is_due:
                self._save()
        with self._average.applied():
            self._course.is_broken = not self._is_finite
            if not self._course.is_broken:
                self._end_epoch()
        if not self._course.is_broken:
            self._save()

    @property
    def _is_finite(self) -> bool:
        """Whether the epoch's losses and the weights are finite."""
        weights = self._module.state_dict().values()
        return math.isfinite(sum(self._losses)) and all(each.isfinite().all() for each in weights)

    def _step(self, batch: Sequence[TrainingLine], step: int, part: float, steps: int) -> float:
        seed = (self._plan.seed, len(self._course.epochs), step)
        torch.manual_seed(hash(seed))  # of dropout
        for group in self._optimiser.param_groups:
            group["lr"] = self._plan.learning_rate * group["factor"] * rate(part, steps)
        images = pictures(batch, seed=seed, is_augmented=self._plan.is_augmented)
        with self._mixed():
            loss = self._trainee.loss(images, [line.text for line in batch])
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), LARGEST_GRADIENT)
        self._optimiser.step()
        self._average.update()
        return float(loss.detach())

    def _end_epoch(self) -> None:
        loss = sum(self._losses) / len(self._losses)
        measured = self._measured() if self._validation else None
        self._course.epochs.append(
            Epoch(
                loss=loss,
                seconds=round(self._seconds, 1),
                cer=measured.cer if measured else None,
                exact=measured.exact if measured else None,
            )
        )
        self._losses, self._seconds = [], 0.0
        if self._course.best_epoch == len(self._course.epochs):
            self._keep()
        number = f"epoch {len(self._course.epochs)} of {self._plan.epochs}"
        self._progress.epoch(f"{number}: loss {loss:.3f}{self._rates_in_words()}")

    def _save(self) -> None:
        self._checkpoint.save(
            {
                "model": self._module.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "average": self._average.state(),
                "best": self._best,
                "base_cer": self._course.base_cer,
                "epochs": [asdict(each) for each in self._course.epochs],
                "losses": self._losses,
                "seconds": self._seconds,
            }
        )

    def _in_words(self) -> str:
        done, recent = self._course.epochs, self._losses[-SHOWN_STEPS:]
        loss = sum(recent) / len(recent)
        return f"epoch {len(done) + 1}, loss {loss:.3f}{self._rates_in_words()}"

    def _rates_in_words(self) -> str:
        """Return the error rates of the last epoch that has ended, if any are known."""
        done = self._course.epochs
        if not done or done[-1].cer is None:
            return ""
        best, base = done[self._course.lowest - 1].cer, self._course.base_cer
        words = f", validation CER {done[-1].cer:.1%} (best {best:.1%}, base {base:.1%})"
        return f"{words}, exact {done[-1].exact:.1%}"


def _release_memory() -> None:
    """Return freed memory to the system: glibc keeps it in pieces between oneDNN's buffers."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def _mixed_precision(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return an autocast context for bfloat16 if it is faster: on GPUs, and with AMX."""
    if device == "cpu" and "amx_bf16" not in declared_flags(PROCESSORS):
        return nullcontext
    return lambda: torch.autocast(device, dtype=torch.bfloat16)
