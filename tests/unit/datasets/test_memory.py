from __future__ import annotations

from pathlib import Path

import pytest

from draem.datasets.memory import available_memory

MB = 2**20
V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "30 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "31 30 0:28 {seen} /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:29 {seen} /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n"
)
UNLIMITED = "9223372036854771712"


def system(root: Path, available: int | None, cgroup: str, mounts: str) -> None:
    """A file system with what the kernel tells."""
    if available is not None:
        told = f"MemTotal: 999999999 kB\nMemAvailable: {available // 1024} kB\n"
        write(root / "proc/meminfo", told)
    write(root / "proc/self/cgroup", cgroup)
    write(root / "proc/self/mountinfo", mounts)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def group_v2(folder: Path, limit: str, used: int, cached: int = 0, high: str = "max") -> None:
    write(folder / "memory.max", f"{limit}\n")
    write(folder / "memory.high", f"{high}\n")
    write(folder / "memory.current", f"{used}\n")
    write(
        folder / "memory.stat",
        f"anon {used - cached}\nfile {cached}\n"
        f"inactive_file {cached // 2}\nactive_file {cached - cached // 2}\n",
    )


def group_v1(folder: Path, limit: str, used: int, cached: int = 0) -> None:
    write(folder / "memory.limit_in_bytes", f"{limit}\n")
    write(folder / "memory.usage_in_bytes", f"{used}\n")
    write(
        folder / "memory.stat",
        f"cache 1\ninactive_file 1\ntotal_inactive_file {cached}\ntotal_active_file 0\n",
    )


def test_this_machine_tells_something_plausible() -> None:
    told = available_memory()
    assert told is None or 2**20 < told < 2**50


def test_without_groups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
    write(tmp_path / "proc/meminfo", "MemTotal: 9 kB\n")
    assert available_memory(tmp_path) is None
    write(tmp_path / "proc/meminfo", "MemTotal: 9 kB\nMemAvailable:       12 kB\n")
    assert available_memory(tmp_path) == 12 * 1024


def test_a_container_of_version_2_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    system(tmp_path, 900 * MB, "0::/\n", V2)
    group_v2(tmp_path / "sys/fs/cgroup", str(100 * MB), used=70 * MB, cached=50 * MB)
    assert available_memory(tmp_path) == (100 - 20) * MB


def test_every_group_above_counts_too(tmp_path: Path) -> None:
    system(tmp_path, 900 * MB, "0::/pod/container\n", V2)
    place = tmp_path / "sys/fs/cgroup"
    group_v2(place / "pod/container", "max", used=10 * MB)
    group_v2(place / "pod", str(300 * MB), used=100 * MB)
    assert available_memory(tmp_path) == 200 * MB
    group_v2(place / "pod/container", "max", used=10 * MB, high=str(60 * MB))
    assert available_memory(tmp_path) == 50 * MB


def test_the_path_on_the_machine_leads_nowhere_inside_a_container(tmp_path: Path) -> None:
    system(tmp_path, 900 * MB, "0::/docker/0a1b\n", V2)
    group_v2(tmp_path / "sys/fs/cgroup", str(100 * MB), used=30 * MB)
    assert available_memory(tmp_path) == 70 * MB


@pytest.mark.parametrize("seen", ["/", "/docker/0a1b"])
def test_version_1(tmp_path: Path, seen: str) -> None:
    cgroup = "5:cpu,cpuacct:/docker/0a1b\n4:memory:/docker/0a1b\n1:name=systemd:/docker/0a1b\n"
    system(tmp_path, 900 * MB, cgroup, V1.format(seen=seen))
    place = tmp_path / "sys/fs/cgroup/memory"
    own = place / "docker/0a1b" if seen == "/" else place
    group_v1(own, str(100 * MB), used=90 * MB, cached=40 * MB)
    assert available_memory(tmp_path) == 50 * MB
    group_v1(own, UNLIMITED, used=90 * MB)
    assert available_memory(tmp_path) == 900 * MB


def test_the_machine_may_have_less_than_the_group_allows(tmp_path: Path) -> None:
    system(tmp_path, 20 * MB, "0::/\n", V2)
    group_v2(tmp_path / "sys/fs/cgroup", str(100 * MB), used=0)
    assert available_memory(tmp_path) == 20 * MB


def test_a_group_that_is_full_has_nothing_left(tmp_path: Path) -> None:
    system(tmp_path, None, "0::/\n", V2)
    group_v2(tmp_path / "sys/fs/cgroup", str(100 * MB), used=130 * MB)
    assert available_memory(tmp_path) == 0
