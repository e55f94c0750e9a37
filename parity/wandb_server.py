"""Weights & Biases' server: whether it can be used, and the names that it takes."""

import logging
import os

from parity.errors import ParityError, in_one_line

log = logging.getLogger(__name__)


def check_wandb_project(project: str | None, run_id: str | None = None) -> str:
    """Return the W&B project.

    Raises:
        ParityError: no project was named, or W&B takes no such name or run id.
    """
    if not project:
        raise ParityError("--wandb_logger needs --wandb_project NAME: the W&B project that the run belongs to.")
    for option, value in (("--wandb_project", project), ("--wandb_id", run_id or "none")):
        if len(value) > 64 or value != value.strip() or set(value) & set("/\\#?%:"):
            raise ParityError(f"{option} takes up to 64 characters, none of them of / \\ # ? % :, not '{value}'.")
    return project


def is_offline(what: str) -> bool:
    """Return whether W&B only writes to the disk: by a user's wish, or with a warning, as its server cannot be used.

    Args:
        what: is logged, for the warning: 'this run'.
    """
    import wandb

    mode = wandb.setup().settings.mode
    if mode in ("disabled", "offline", "dryrun"):
        return mode != "disabled"
    if reason := obstacle():
        log.warning("%s: W&B is offline for %s", reason, what)
    return reason is not None


def obstacle() -> str | None:
    """Return why W&B's server cannot be used; None if it can. Never asks for a key at a terminal."""
    import wandb

    try:
        if wandb.run is not None or wandb.login(prompt=False, verify=True):
            return None
    except Exception as error:
        return f"W&B's server does not answer, or refuses the key ({in_one_line(error)})"
    return "there is no W&B key (wandb login stores one)"


def in_sweep() -> bool:
    """Return whether a sweep's agent has started this process: W&B gives all of its runs one id then."""
    return "WANDB_SWEEP_ID" in os.environ
