"""What a person sees while a run trains: two progress bars in a terminal, a line every few seconds elsewhere."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from parity import terminal
from parity.training.loop.bursts import train_loader
from parity.training.loop.lit_module import BurstModule

log = logging.getLogger(__name__)

_SECONDS_BETWEEN = 0.2  # drawing takes milliseconds, as much as several steps of a small network
_SECONDS_BETWEEN_LINES = 10.0


class TrainingProgress(ProgressBar):
    """Shows epochs and steps, the loss of the latest step, and the monitored validation metrics.

    The loss is fetched from the device only when the bars are redrawn. Where there is no terminal, a line is printed
    after the first epoch, the last one, and in between at most every ten seconds.

    Args:
        shown: logged metrics to show after each epoch, by the label they get: ``{"val A_d": "val/overall_top1"}``.
        refresh_rate: redraw after this many steps, but at most five times a second.
        console: where to draw; standard output by default.
        print_line: called with a line where that is not a terminal; logs it by default.
    """

    def __init__(
        self,
        shown: dict[str, str],
        refresh_rate: int = 50,
        console: Console | None = None,
        print_line: Callable[[str], object] = log.info,
    ) -> None:
        super().__init__()
        self.shown, self.refresh_rate = shown, max(1, refresh_rate)
        self.console = console or terminal.console()
        self.print_line = print_line
        self._bars: Progress | None = None
        self._cell: Any = None
        """In a notebook: what the bars are shown by."""
        self._waiting: str | None = None
        """The line of the latest epoch, if it was not printed."""
        self._printed_when: float | None = None

    def disable(self) -> None:
        """Draw and print nothing: called by Lightning on ranks other than 0."""
        self.console, self.print_line = Console(quiet=True), _print_nothing

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._waiting = self._printed_when = None
        if not self.console.is_terminal and not self.console.is_jupyter:
            return
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}", markup=False),  # names of a user's own
            console=self.console,
            auto_refresh=False,
        )
        done = trainer.current_epoch
        self._epochs = self._bars.add_task("epochs", total=trainer.max_epochs, completed=done, values="")
        self._steps = self._bars.add_task("steps", total=train_loader(trainer).num_steps, values="")
        self._drawn_at, self._drawn_when = 0, time.monotonic()
        if self.console.is_jupyter:
            self._cell = _shown_in_notebook(self._bars)
        else:
            self._bars.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bars is None:
            return
        assert isinstance(pl_module, BurstModule)
        steps = len(pl_module.step_losses)
        if steps - self._drawn_at >= self.refresh_rate and time.monotonic() - self._drawn_when >= _SECONDS_BETWEEN:
            self._draw(steps, f"loss {float(pl_module.step_losses[-1]):.4g}")

    def _draw(self, steps: int, values: str) -> None:
        assert self._bars is not None
        self._drawn_at, self._drawn_when = steps, time.monotonic()
        self._bars.update(self._steps, completed=steps, values=values)
        self._refresh()

    def _refresh(self) -> None:
        assert self._bars is not None
        if self._cell is None:
            self._bars.refresh()
        else:
            self._cell.update(self._bars)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Called before the LightningModule logs the epoch's loss, after it logged validation.
        epoch = trainer.current_epoch + 1
        assert isinstance(pl_module, BurstModule)
        values = {label: float(trainer.callback_metrics[name]) for label, name in self.shown.items()}
        text = ", ".join(f"{label} {value:.4f}" for label, value in values.items())
        loss = f"loss {float(pl_module.step_losses[-1]):.4g}"
        if self._bars is None:
            self._waiting = ", ".join(filter(None, (f"epoch {epoch}/{trainer.max_epochs}", loss, text)))
            if self._printed_when is None or time.monotonic() - self._printed_when >= _SECONDS_BETWEEN_LINES:
                self._print_waiting()
            return
        self._bars.update(self._epochs, completed=epoch, values=text)
        if epoch == trainer.max_epochs or time.monotonic() - self._drawn_when >= _SECONDS_BETWEEN:
            self._draw(len(pl_module.step_losses), loss)
        self._drawn_at = 0

    def _print_waiting(self) -> None:
        if self._waiting is not None:
            self.print_line(self._waiting)
            self._waiting, self._printed_when = None, time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        self._print_waiting()
        if self._bars is not None:
            if self._cell is None:
                self._bars.stop()
            else:
                self._refresh()
            self._bars = self._cell = None


def _print_nothing(line: str) -> None:
    pass


def _shown_in_notebook(bars: Progress) -> Any:
    """Show bars below a cell, and return what updates them there; rich's own way needs ipywidgets."""
    from IPython.display import display

    return display(bars, display_id=True)
