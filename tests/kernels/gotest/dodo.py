from buildsys.tasks import DOIT_CONFIG, task_kernel  # noqa: F401
