"""`word_service.py TERMINATION_LOG DRAIN_SECONDS PID_FILE`: run the real server with a fake engine.

It reads the same configuration as the service. Like vLLM, the engine has a child process; PID_FILE gets its pid.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from support.serving.word_engine import WordEngine
from toxicity_api.stage_config import ServingConfig, parse_stage_config
from toxicity_serving.__main__ import serve, take_token
from toxicity_serving.engine.protocol import EngineError, LoadedModel

INFERENCE_SECONDS = 0.02
LONG_WORD, LONG_SECONDS = "долго", 4.0


class ChildEngine(WordEngine):
    """A WordEngine that needs time for a prompt, and that is dead when its child process is.

    Its start hangs when the folder of the PID file is missing.
    """

    def __init__(self, pid_file: Path) -> None:
        super().__init__()
        self._child: subprocess.Popen[bytes] | None = None
        self._pid_file = pid_file

    async def start(self) -> LoadedModel:
        if not self._pid_file.parent.exists():  # like a volume that hangs: in a thread that never ends
            await asyncio.to_thread(threading.Event().wait)
        self._child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self._pid_file.write_text(str(self._child.pid))
        return await super().start()

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
        await self.check()
        text = "".join(map(chr, prompt_ids))
        await asyncio.sleep(LONG_SECONDS if LONG_WORD in text else INFERENCE_SECONDS)
        return await super().label_logits(prompt_ids)

    async def check(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            raise EngineError(f"the child process ended with {self._child.returncode}")

    async def stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()


def main() -> int:
    logging.basicConfig(level=logging.INFO)
    termination_log, drain_seconds, pid_file = sys.argv[1:]
    config = parse_stage_config(ServingConfig, dict(os.environ))
    engine = ChildEngine(Path(pid_file))
    return serve(config, engine, take_token(os.environ), Path(termination_log), float(drain_seconds))


if __name__ == "__main__":
    raise SystemExit(main())
