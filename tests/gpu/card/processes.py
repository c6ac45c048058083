"""Programs that print a JSON object a line, each in a process of its own and ended in time.

JAX runs in these alone: a card that hangs, or memory that runs out, costs one of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any


def lines_of(
    module: str, *arguments: object, seconds: float, settings: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """What `python -m module` prints, as it comes; at its end an object with `error` if it failed.

    After so many seconds the process and all that it started are killed.
    """
    if seconds <= 0:
        yield {"error": "no time left"}
        return
    command = [sys.executable, "-m", module, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | dict(settings or {}),
        process_group=0,
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    said: list[str] = []
    listener = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    listener.start()
    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        for line in process.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
        code = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    listener.join(timeout=5)
    if late.is_set():
        yield {"error": f"not done after {seconds:.0f} s"}
    elif code:
        last = [line.strip() for line in said if line.strip()][-3:]
        yield {"error": f"exit status {code}: " + " | ".join(last)}
