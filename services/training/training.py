"""Fine-tuning: batches of lines in, the weights that read the validation split best out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.engines.trocr import Checkpoint
from services.training.lines import Line
from services.training.measuring import measure

IGNORED = -100
"""Label of what counts for no loss, in torch."""
LARGEST_GRADIENT = 1.0
TINY = 1_000_000
"""Parameters; the steps of smaller models are so short that several threads wait for each other
most of the time."""
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""

Progress = Callable[[int, int, str], None]
"""Told how many of how many steps are done, and in words how it goes."""


@dataclass(frozen=True)
class Plan:
    """How to train."""

    epochs: int
    batch: int
    """Lines of a step."""
    learning_rate: float
    """The highest; it rises to it, and falls to nothing in the end."""
    seed: int
    device: str


@dataclass(frozen=True)
class Course:
    """How the training went, an epoch each."""

    train: list[float]
    """Mean cross entropy of a token."""
    validation: list[float]
    """The same of the validation split; empty without one."""
    validation_cer: list[float]
    """Its character error rate, which says more: the cross entropy of a model that gets surer of
    its few errors rises while the errors get fewer."""

    @property
    def best_epoch(self) -> int:
        """Whose weights are kept, from 1; without validation split the last."""
        if not self.validation:
            return len(self.train)
        merits = list(zip(self.validation_cer, self.validation, strict=True))
        return 1 + merits.index(min(merits))


def use_few_threads_for(checkpoint: Checkpoint) -> None:
    """Compute a tiny model on one thread; any other as torch does, on all cores."""
    if sum(each.numel() for each in checkpoint.model.parameters()) < TINY:
        torch.set_num_threads(1)


def chosen_device(name: str) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` is whichever is there.

    Raises:
        ValueError: There is no such device.
    """
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    if name == "cpu" or (name == "cuda" and has_cuda):
        return name
    raise ValueError(f"there is no device {name}")


def can_write(checkpoint: Checkpoint, text: str) -> bool:
    """Whether a model has tokens for a text; one made for other texts may lack characters."""
    tokens = checkpoint.tokenizer(text, add_special_tokens=False).input_ids
    return checkpoint.tokenizer.unk_token_id not in tokens


def fine_tune(
    checkpoint: Checkpoint,
    train: Sequence[Line],
    validation: Sequence[Line],
    plan: Plan,
    progress: Progress,
) -> Course:
    """Train a checkpoint in place; equal each time on one machine.

    Raises:
        RefusedError: An image can't be decoded.
    """
    model = checkpoint.model.to(plan.device)
    examples = _Examples(checkpoint, plan.device)
    shuffling = torch.Generator().manual_seed(plan.seed)
    steps = plan.epochs * -(-len(train) // plan.batch)
    optimiser = _Optimiser(model, plan.learning_rate, steps)
    course, kept = Course([], [], []), None
    for epoch in range(1, plan.epochs + 1):
        losses = []
        model.train()
        for batch in _batches(train, plan.batch, shuffling):
            losses.append(optimiser.step(examples.loss(batch)))
            progress(optimiser.done, steps, _in_words(epoch, course))
        course.train.append(sum(losses) / len(losses))
        if validation:
            course.validation_cer.append(measure(checkpoint, validation).cer)
            model.to(plan.device)  # the engine prefers another, where there is one
            course.validation.append(_loss_of(examples, validation, plan.batch))
            if course.best_epoch == epoch:
                kept = {name: each.clone() for name, each in model.state_dict().items()}
    if kept is not None:
        model.load_state_dict(kept)
    progress(steps, steps, _in_words(plan.epochs, course))
    return course


class _Optimiser:
    """AdamW whose learning rate rises for some steps, and then falls."""

    def __init__(self, model: Any, learning_rate: float, steps: int) -> None:
        self._parameters = list(model.parameters())
        self._adam = torch.optim.AdamW(self._parameters, lr=learning_rate)
        self._rate = torch.optim.lr_scheduler.OneCycleLR(
            self._adam, max_lr=learning_rate, total_steps=steps, pct_start=WARM_UP
        )
        self.done = 0

    def step(self, loss: Any) -> float:
        """Go one step down; return the loss."""
        self._adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, LARGEST_GRADIENT)
        self._adam.step()
        self._rate.step()
        self.done += 1
        return float(loss.detach())


class _Examples:
    """Turns lines into what the model computes with.

    The decoder is given the start token and the text, and has to say the text and the end: what
    TrOCR was trained with, and what ``generate`` begins with.
    """

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        generation = checkpoint.model.generation_config
        end = generation.eos_token_id
        self._checkpoint = checkpoint
        self._device = device
        self._start: int = generation.decoder_start_token_id
        self._end: int = end[0] if isinstance(end, list) else end
        self._padding: int = generation.pad_token_id
        self._most_tokens: int = checkpoint.model.config.decoder.max_position_embeddings

    def loss(self, lines: Sequence[Line]) -> Any:
        """Return the mean cross entropy of their tokens."""
        images = [line.pixels for line in lines]
        inputs = self._checkpoint.image_processor(images=images, return_tensors="pt")
        texts = [self._tokens(line.text) for line in lines]
        most = self._most_tokens  # what is cut off a longer text is the end token too
        given = _padded([[self._start, *tokens][:most] for tokens in texts], self._padding)
        labels = _padded([[*tokens, self._end][:most] for tokens in texts], IGNORED)
        return self._checkpoint.model(
            pixel_values=inputs["pixel_values"].to(self._device),
            decoder_input_ids=given.to(self._device),
            labels=labels.to(self._device),
        ).loss

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._checkpoint.tokenizer(text, add_special_tokens=False).input_ids
        return tokens


def _padded(rows: Sequence[Sequence[int]], padding: int) -> Any:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])


def _batches(lines: Sequence[Line], size: int, shuffling: Any) -> Iterator[list[Line]]:
    order = torch.randperm(len(lines), generator=shuffling)
    for numbers in order.split(size):
        yield [lines[number] for number in numbers.tolist()]


def _loss_of(examples: _Examples, lines: Sequence[Line], size: int) -> float:
    """Return the mean loss of lines, by a model that does not learn from them."""
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(lines), size):
            batch = lines[start : start + size]
            total += float(examples.loss(batch)) * len(batch)
    return total / len(lines)


def _in_words(epoch: int, course: Course) -> str:
    words = f"epoch {epoch}"
    if course.train:
        words += f", loss {course.train[-1]:.3f}"
    if course.validation_cer:
        words += f", validation CER {course.validation_cer[-1]:.1%}"
    return words
