"""The tasks of this kernel: `doit list` shows them, `doit` builds the image."""

from buildsys.tasks import DOIT_CONFIG, task_kernel  # noqa: F401  doit reads both
