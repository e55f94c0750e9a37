"""The process that workers are forked from. Light to import: it is started first, and imports while this one does."""

import multiprocessing
import signal
import threading
from multiprocessing import forkserver


def start_server() -> None:
    """Start it, which takes as long as importing torch; once is enough. Ctrl-C does not reach it and its children."""
    multiprocessing.set_forkserver_preload(["parity.analyses.workers"])
    if threading.current_thread() is not threading.main_thread():  # which alone may set signal handlers
        forkserver.ensure_running()
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
