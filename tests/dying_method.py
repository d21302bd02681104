"""Stable Diffusion that kills its own process where DIE_AT says, for the tests of resuming."""

import os
import signal

from baselines.stable_diffusion import Params  # noqa: F401
from baselines.stable_diffusion import generate as _generate


def generate(sd, layouts, noise_BCHW, params):  # type: ignore[no-untyped-def]
    """Like Stable Diffusion, but a batch with layout DIE_AT ends in SIGKILL."""
    if any(str(layout.id) == os.environ.get("DIE_AT") for layout in layouts):
        os.kill(os.getpid(), signal.SIGKILL)
    return _generate(sd, layouts, noise_BCHW, params)
