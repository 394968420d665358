"""The barrier policy, as it is set: every mistake named with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.barrier import BarrierPolicy
from buildsys.config.project import kernels, load
from buildsys.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    return tmp_path


def write(root: Path, lines: str) -> None:
    (root / "pyproject.toml").write_text(f'[tool.buildsys]\npackage = "src"\n{lines}\n')


@pytest.mark.parametrize(
    ("lines", "policy"),
    [
        ("", BarrierPolicy("discard")),
        ('barrier = "count"', BarrierPolicy("count")),
        ('barrier = "record"', BarrierPolicy("record", 4096)),
        ('barrier = "record"\nbarrier-ring = 2', BarrierPolicy("record", 2)),
        (
            'barrier = "user"\nbarrier-function = "main.f"\nbarrier-ring = 65536',
            BarrierPolicy("user", 1 << 16, "main.f"),
        ),
    ],
)
def test_the_barrier_policy_is_read(root: Path, lines: str, policy: BarrierPolicy) -> None:
    write(root, lines)
    assert load(root).barrier == policy


@pytest.mark.parametrize(
    ("lines", "said", "hint"),
    [
        ('barrier = "cuont"', "`tool.buildsys.barrier` is 'cuont'", "did you mean `count`?"),
        ('barrier = "profile"', "`tool.buildsys.barrier` is 'profile'", "count, discard, record, user"),
        ("barrier = 1", "`tool.buildsys.barrier` must be a string", ""),
        ('barrier = "user"', "`tool.buildsys.barrier-function` is missing", "main.onBarrier"),
        ('barrier = "record"\nbarrier-ring = 1000', "is 1000, no power of two", "did you mean 1024?"),
        ('barrier = "record"\nbarrier-ring = 1', "is 1, no power of two", "did you mean 2?"),
        ('barrier = "record"\nbarrier-ring = 131072', "is 131072, no power of two", "did you mean 65536?"),
        ('barrier = "record"\nbarrier-ring = -8', "is -8, no power of two", "did you mean 2?"),
        ('barrier = "record"\nbarrier-ring = "8"', "`tool.buildsys.barrier-ring` must be an integer", ""),
        ("barrier-ring = 8", 'means nothing with barrier = "discard"', 'barrier = "record" or "user"'),
        ('barrier = "count"\nbarrier-function = "main.f"', 'means nothing with barrier = "count"', 'barrier = "user"'),
    ],
)
def test_a_barrier_policy_that_cannot_be_is_named(root: Path, lines: str, said: str, hint: str) -> None:
    write(root, lines)
    with pytest.raises(UserError) as error:
        load(root)
    assert said in error.value.message
    assert "pyproject.toml:" in error.value.message
    assert hint in error.value.hint


def test_kernels_share_the_keys_of_a_policy_that_one_of_them_has_not(root: Path) -> None:
    lines = 'barrier = "user"\nbarrier-function = "main.f"\nbarrier-ring = 8\n'
    write(root, f'{lines}[tool.buildsys.kernel.a]\n[tool.buildsys.kernel.b]\nbarrier = "count"\n')
    assert [project.barrier for project in kernels(root)] == [
        BarrierPolicy("user", 8, "main.f"),
        BarrierPolicy("count"),
    ]
