"""The filter of system calls, run by an interpreter of such filters in a few lines."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from grading import seccomp

MACHINES = ("x86_64", "aarch64")
PID = 4711
HEADERS = {
    "x86_64": (*Path("/usr/include").glob("*/asm/unistd_64.h"),),
    "aarch64": (*Path("/usr/include/asm-generic").glob("unistd.h"),),
}
USUAL = {  # what every Python calls: read, write, openat, mmap, brk, futex, rt_sigaction, …
    "x86_64": (0, 1, 257, 9, 12, 202, 13, 231, 3, 8, 5, 83, 87, 39, 186, 16, 72, 262),
    "aarch64": (63, 64, 56, 222, 214, 98, 134, 94, 57, 62, 80, 34, 35, 172, 178, 29, 25, 79),
}


def verdict(machine, number, *arguments, architecture=None):
    """What the kernel would do: "allow", "kill", or the error's number."""
    data = {0: number, 4: seccomp.ARCHITECTURES[architecture or machine]}
    data |= {16 + 8 * k: value for k, value in enumerate((*arguments, 0, 0, 0, 0, 0, 0)[:6])}
    steps, place, held = seccomp.program(machine, PID), 0, 0
    while True:
        code, yes, no, value = steps[place]
        place += 1
        if code == 0x20:  # load a word
            held = data[value] & 0xFFFFFFFF
        elif code == 0x54:  # and
            held &= value
        elif code in (0x15, 0x35):  # equal, at least
            place += yes if (held == value if code == 0x15 else held >= value) else no
        else:
            assert code == 0x06
            known = {0x7FFF0000: "allow", 0x80000000: "kill"}
            return known.get(value, value - 0x50000)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_does_what_its_tables_say(machine):
    which = MACHINES.index(machine)
    for name, numbers in seccomp.DENIED.items():
        if numbers[which] is not None:
            assert verdict(machine, numbers[which]) == errno.EPERM, name
    for name, numbers in seccomp.IGNORED.items():
        if numbers[which] is not None:
            assert verdict(machine, numbers[which]) == 0, name
    for number in USUAL[machine]:
        assert verdict(machine, number) == "allow", number
    assert verdict(machine, 1, architecture=MACHINES[1 - which]) == "kill"


@pytest.mark.parametrize("machine", MACHINES)
def test_what_depends_on_arguments(machine):
    which = MACHINES.index(machine)
    clone, pair = seccomp.CLONE[which], seccomp.SOCKETPAIR[which]
    thread = 0x3D0F00  # the flags of pthread_create
    assert verdict(machine, clone, thread) == "allow"
    assert verdict(machine, clone, 17) == verdict(machine, clone, 0x4111) == errno.EPERM
    assert verdict(machine, seccomp.CLONE3[which]) == errno.ENOSYS
    for flags in (0, 0o2000000, 0o4000):  # close on exec, without waiting
        assert verdict(machine, pair, 1, 1 | flags) == "allow"
        assert verdict(machine, pair, 1, 2 | flags) == errno.EPERM
    for name, numbers in seccomp.TO_ITSELF.items():
        number = numbers[which]
        assert verdict(machine, number, PID) == "allow"
        others = (PID + 1, 1, 2**32 - 1) if name == "prlimit64" else (PID + 1, 0, 2**32 - 1)
        assert {verdict(machine, number, other) for other in others} == {errno.EPERM}, name
    assert verdict(machine, seccomp.TO_ITSELF["prlimit64"][which], 0) == "allow"
    for name, (numbers, place, values) in seccomp.NEVER.items():
        for value in values:
            assert verdict(machine, numbers[which], *[0] * place, value) == errno.EPERM, name
        assert verdict(machine, numbers[which], *[0] * place, 0x123456) == "allow"
    if machine == "x86_64":
        assert verdict(machine, 0x40000000 + 41) == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernel(machine):
    """Against the headers of Linux, where they are installed; an old header lacks new calls."""
    if not HEADERS[machine]:
        pytest.skip("no headers of Linux for this machine")
    text = HEADERS[machine][0].read_text()
    known = dict(re.findall(r"#define __NR_?(?:3264_)?(\w+)\s+(\d+)", text))
    tables = seccomp.DENIED | seccomp.IGNORED | seccomp.TO_ITSELF
    tables |= {name: numbers for name, (numbers, *_) in seccomp.NEVER.items()}
    tables |= {"clone": seccomp.CLONE, "clone3": seccomp.CLONE3, "socketpair": seccomp.SOCKETPAIR}
    tables["seccomp"] = (seccomp.SECCOMP["x86_64"], seccomp.SECCOMP["aarch64"])
    checked = 0
    for name, numbers in tables.items():
        number = numbers[MACHINES.index(machine)]
        if name in known:
            assert number == int(known[name]), name
            checked += 1
        else:
            assert number is None or number >= 434, name
    assert checked > 60
