"""A filter of system calls (seccomp) for what Landlock and resource limits leave open.

No other process is started, signalled, looked into or slowed down; no socket is opened; no owner,
mode, time or attribute of a file is changed; no memory is kept where nobody counts it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Numbers of system calls, for x86_64 and aarch64; None where a machine hasn't got it.
DENIED: dict[str, tuple[int | None, int | None]] = {
    # other programs and other processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "tkill": (200, 130), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "bpf": (321, 280),
    # the network, and channels to other processes
    "socket": (41, 198), "mq_open": (240, 180), "msgget": (68, 186), "semget": (64, 190),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semctl": (66, 191),
    "semop": (65, 193), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # memory that belongs to no page table
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    # what belongs to a file beside its content
    "truncate": (76, 45), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None),
    "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "file_setattr": (469, 469),
    "mknod": (133, None), "mknodat": (259, 33), "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    # the machine
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "unshare": (272, 97), "setns": (308, 268), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "iopl": (172, None), "ioperm": (173, None), "acct": (163, 89), "syslog": (103, 116),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
}  # fmt: skip
# Done in appearance only, since `shutil.copy` ends with them: nobody looks at modes and times.
IGNORED = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
# To this process alone: the first argument must be its number (for prlimit64 0 means the same).
TO_ITSELF = {
    "kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261),
}  # fmt: skip
# Never with these values of an argument: (numbers, which argument, values).
NEVER = {
    "fcntl": ((72, 25), 1, (8, 10, 15)),  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals to others
    "ioctl": ((16, 29), 1, (0x8901, 0x8902, 0x5412)),  # FIOSETOWN, SIOCSPGRP, TIOCSTI
    "prctl": ((157, 167), 0, (1, 4)),  # PR_SET_PDEATHSIG, PR_SET_DUMPABLE: as the grader set them
}
CLONE, CLONE3, SOCKETPAIR = (56, 220), (435, 435), (53, 199)
CLONE_THREAD, STREAM, X32 = 0x10000, 1, 0x40000000

LOAD, EQUAL, AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16  # places in the kernel's seccomp_data
NO_NEW_PRIVILEGES, SET_FILTER, THREADS_TOO = 38, 1, 1
SECCOMP = {"x86_64": 317, "aarch64": 277}


def supported() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.system() == "Linux" and platform.machine() in ARCHITECTURES


def install() -> None:
    """Filter the system calls of this process, all its threads, for good.

    Raises OSError where the kernel or the machine can't.
    """
    if not supported():
        raise OSError(f"no filter of system calls for {platform.system()} {platform.machine()}")
    steps = program(platform.machine(), os.getpid())
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    pointer = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.syscall(SECCOMP[platform.machine()], SET_FILTER, THREADS_TOO, pointer):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def program(machine: str, pid: int) -> list[tuple[int, int, int, int]]:
    """The filter as instructions (code, jump if true, jump if false, value)."""
    which = list(ARCHITECTURES).index(machine)
    refuse, allow = (RETURN, 0, 0, REFUSE | errno.EPERM), (RETURN, 0, 0, ALLOW)
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, ARCHITECTURES[machine])]
    steps += [(RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]

    def case(number: int | None, *then: tuple[int, int, int, int]) -> None:
        if number is not None:
            steps.extend([(EQUAL, 0, len(then), number), *then])

    if machine == "x86_64":  # the same calls under other numbers
        steps.extend([(AT_LEAST, 0, 1, X32), refuse])
    for numbers in DENIED.values():
        case(numbers[which], refuse)
    for numbers in IGNORED.values():
        case(numbers[which], (RETURN, 0, 0, REFUSE))
    # Its arguments lie in memory, where a filter can't look; clone follows where it is missing.
    case(CLONE3[which], (RETURN, 0, 0, REFUSE | errno.ENOSYS))
    flags = (LOAD, 0, 0, ARGUMENT)
    case(CLONE[which], flags, (AND, 0, 0, CLONE_THREAD), (EQUAL, 0, 1, 0), refuse, allow)
    kind = (LOAD, 0, 0, ARGUMENT + 8)
    case(SOCKETPAIR[which], kind, (AND, 0, 0, 0xF), (EQUAL, 1, 0, STREAM), refuse, allow)
    for name, numbers_ in TO_ITSELF.items():
        itself = 0 if name == "prlimit64" else pid
        tests = [(EQUAL, 2, 0, pid), (EQUAL, 1, 0, itself)]
        case(numbers_[which], (LOAD, 0, 0, ARGUMENT), *tests, refuse, allow)
    for numbers_, place, values in NEVER.values():
        tests = [(EQUAL, len(values) - k, 0, value) for k, value in enumerate(values)]
        argument = (LOAD, 0, 0, ARGUMENT + 8 * place)
        case(numbers_[which], argument, *tests, allow, refuse)
    return [*steps, allow]
