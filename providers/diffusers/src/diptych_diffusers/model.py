"""A loaded checkpoint: which of its two ways of drawing does a job, and with which adapters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from diptych.errors import ConfigurationError, UnsupportedOption

from .adapters import Adapters, Worn, worn
from .cards import Described, is_native
from .control_lora import following
from .engine import Engine, Steps
from .files import found
from .job import Job
from .recipe import EXTRA
from .refusals import check
from .speed import Pace
from .stock import Stock
from .twin import Twin

if TYPE_CHECKING:
    from .loading import Lease

__all__ = ["Model"]

SETS = 4
"""Sets of adapters for which a batch and the encoded prompts are kept."""

TWINS = 2
"""Control LoRAs that stay loaded."""


class Model:
    """The loop of our own, where the family has one, and the stock pipelines over the same parts.

    Requests with the same adapters share passes; `engine` makes the loop for one set of adapters.
    Everything happens on the thread of the device.
    """

    def __init__(
        self,
        described: Described,
        engine: Callable[[], Engine] | None,
        stock: Stock,
        lease: Lease,
        pace: Pace | None,
    ) -> None:
        self.described = described
        self.stock = stock
        self.adapters = Adapters(stock.parts, stock.any_pipeline, described.family.name)
        self.lease = lease
        self.pace = pace
        self._engine = engine
        self._engines: OrderedDict[Worn, Engine] = OrderedDict()
        self._twins: OrderedDict[str, Twin] = OrderedDict()

    def run(self, job: Job, *, streaming: bool) -> Steps:
        """Draw the pictures of `job`, in steps; the last event is the `Outcome`."""
        self._check(job)
        for each in job.controls:
            if (path := each.get("path")) is not None:
                found(path, "controls")
                yield None
        if job.controls:
            self._check(job)  # their files tell now what each of them is
        wanted = worn(job.adapters)
        wearing = [(self.adapters, wanted)]
        self.lease.arrive()
        lora = following(self.described, job.controls)
        if job.controls and self.described.family.controlnet == "ZImageControlNetModel":
            self._check_whole("a ControlNet that borrows layers")
        if lora is None:
            _load(wearing)
            steps = self._drawing(job, wanted, streaming)
        else:
            (control,) = job.controls
            twin = self._twin(control["path"], lora)
            with_it = ((control["path"], float(control["strength"])), *wanted)
            wearing.append((twin.adapters, with_it))
            _load(wearing)
            self._keep(control["path"], twin)
            read = job.but(controls=({**control, "path": None},))
            steps = twin.stock.run(read, streaming=streaming)
        yield None
        try:
            while True:
                self.lease.arrive()  # others may have been here in between
                _load(wearing)
                for adapters, on in wearing:
                    adapters.wear(on)
                try:
                    event = next(steps)
                except StopIteration:
                    return
                finally:
                    if self.adapters.reach_others:
                        self.adapters.wear(())
                yield event
        finally:
            steps.close()

    def _check(self, job: Job) -> None:
        """Refuse what the model cannot do. Raises as `check` does."""
        check(
            self.described,
            job.task,
            image=None if job.image is None else job.image.size,
            size=job.size,
            negative_prompt=job.negative_prompt,
            guidance=job.guidance,
            change=job.change,
            controls=job.controls,
            references=[each.get("weight") for each in job.references],
            adapters=[each["path"] for each in job.adapters],
            read=[each["image"].size for each in job.references],
            extra=job.extra,
        )
        if self.pace is None or not self.pace.eight:
            return
        lora = following(self.described, job.controls) is not None
        for option, given in (("adapters", bool(job.adapters)), ("controls", lora)):
            if given:
                what = "a control LoRA" if option == "controls" else option
                raise UnsupportedOption(
                    f'{what} cannot be put on weights in eight bits: use speed="exact" instead of '
                    f'"{self.pace.speed}"',
                    option=option,
                )

    def _check_whole(self, what: str) -> None:
        """Refuse what runs layers of the transformer out of turn where its parts come and go."""
        placement = self.lease.placement
        if placement.kind != "resident":
            raise ConfigurationError(
                f"controls: {what} is for a model that stays on its device whole: "
                f"{placement.notices[0].message}; free memory, or leave controls out"
            )

    def _twin(self, path: str, lora: Described) -> Twin:
        """The twin with the control LoRA at `path`, its weights loaded or not."""
        self._check_whole("a control LoRA")
        if path in self._twins:
            return self._twins[path]
        return Twin.of(self.stock, lora, path)

    def _keep(self, path: str, twin: Twin) -> None:
        self._twins[path] = twin
        self._twins.move_to_end(path)
        if len(self._twins) > TWINS:
            self._twins.popitem(last=False)

    def _drawing(self, job: Job, wanted: Worn, streaming: bool) -> Steps:
        beside = {"controls": bool(job.controls), "references": bool(job.references)}
        native = is_native(self.described.family, job.task, **beside)
        if self._engine is None or not native or not set(job.extra) <= EXTRA:
            return self.stock.run(job, streaming=streaming)
        if wanted not in self._engines:
            self._engines[wanted] = self._engine()
            if len(self._engines) > SETS:
                self._engines.popitem(last=False)
        self._engines.move_to_end(wanted)
        return self._engines[wanted].run(job, streaming=streaming)


def _load(wearing: Sequence[tuple[Adapters, Worn]]) -> None:
    """Load what is to be worn and is not loaded, or not any more."""
    for adapters, wanted in wearing:
        adapters.load(wanted)
