"""Runs trials one after the other in each of several processes, and keeps what each of them logs and finds."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path

import torch

from parity import settings
from parity.analyses.grid import Trial
from parity.analyses.server import start_server
from parity.analyses.trial import run_trial
from parity.errors import ParityError
from parity.storage.files import write_json


def record(trial: Trial, folder: Path) -> None:
    """Run a trial in this process; its output goes to its log, its result to its file."""
    path = trial.log_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("parity")
    level, propagate = logger.level, logger.propagate
    with path.open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        handler = logging.StreamHandler(log)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            logger.info("%s", trial)
            result = run_trial(trial, folder)
        except Exception:
            logger.exception("the trial failed")
            raise
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
    write_json(trial.result_file(folder), result)


def run_all(trials: Sequence[Trial], folder: Path, jobs: int) -> Iterator[Trial]:
    """Run trials, and yield each that is done.

    The processes are forked from one that has imported torch and done nothing else. They end with this process, however
    that ends, and leave signals to it; when the caller stops asking, or an error is raised, they are ended at once.

    Args:
        trials: which.
        folder: of the study.
        jobs: processes; 0 runs them in this one.

    Raises:
        ParityError: a trial cannot be run, or a process was killed from outside.
    """
    if jobs == 0:
        for trial in trials:
            record(trial, folder)
            yield trial
        return
    context = multiprocessing.get_context("forkserver")
    start_server()
    before = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        min(jobs, len(trials)), context, initializer=_begin, initargs=(Path.cwd(), settings.DATA_ROOT)
    )
    try:
        # The widest take longest: they come first, so that no process is left alone with one in the end.
        futures = {
            executor.submit(record, trial, folder): trial for trial in sorted(trials, key=lambda trial: -trial.width)
        }
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BaseException as error:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise ParityError(
                "a process was killed from outside, perhaps for want of memory: the same command resumes, with fewer "
                "--jobs if it happens again."
            ) from error
        raise
    finally:
        executor.shutdown()


def _begin(folder: Path, data_root: Path) -> None:
    os.chdir(folder)
    settings.DATA_ROOT = data_root
    torch.set_num_threads(1)
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a process of the pool"
    connection.wait([parent.sentinel])
    os._exit(1)
