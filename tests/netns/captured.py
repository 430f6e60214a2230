# SPDX-License-Identifier: GPL-2.0-or-later
"""An agent that was taken over: system calls made in the real, confined process."""
import contextlib
import ctypes
import mmap
import os
import struct

import lab
from lab import BUILD, until

LIBRARY = os.path.join(BUILD, "tests/captured/libcaptured.so")
SIZE = 1 << 20
BUFFERS = 4096
STATE, NUMBER, RESULT, FORGE_HOOKS, FORGE_FD, KEEP, KEPT, SAY_AGAIN = 1, 2, 9, 10, 11, 12, 13, 14

# asm/unistd.h of the machine that the tests run on
NUMBERS = {
    "x86_64": {"read": 0, "write": 1, "close": 3, "mmap": 9, "mprotect": 10, "pwrite64": 18, "dup": 32,
               "socket": 41, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "setsockopt": 54, "fcntl": 72, "prlimit64": 302, "openat": 257, "accept4": 288,
               "tgkill": 234, "fchmod": 91, "eventfd2": 290},
    "aarch64": {"read": 63, "write": 64, "close": 57, "mmap": 222, "mprotect": 226, "pwrite64": 68, "dup": 23,
                "socket": 198, "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "setsockopt": 208, "fcntl": 25, "prlimit64": 261, "openat": 56, "accept4": 242,
                "tgkill": 131, "fchmod": 52, "eventfd2": 19},
}.get(os.uname().machine)


class Captured:
    """Call its system calls by name: `captured.close(5)`; the result, or -errno."""

    def __init__(self, own_lab):
        self.path = f"{own_lab.dir}/captured"
        with open(self.path, "wb") as file:
            file.truncate(SIZE)
            self.page = None
        with open(self.path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), SIZE)
        own_lab.environments["nsgate-agent"] = {
            **os.environ, "LD_PRELOAD": LIBRARY, "NSGATE_CAPTURED": self.path}
        self.lab = own_lab
        self.used = BUFFERS

    def close_page(self):
        self.page.close()

    def word(self, index):
        return struct.unpack_from("=q", self.page, 8 * index)[0]

    def set(self, index, value):
        struct.pack_into("=q", self.page, 8 * index, value)

    def buffer(self, data):
        """The address of these bytes in there; a number: so many, all zero."""
        data = bytes(data) if isinstance(data, int) else data
        at = self.used
        self.used += (len(data) + 15) & ~15
        assert self.used <= SIZE
        self.page[at:at + len(data)] = data
        return self.word(0) + at

    def bytes_at(self, address, length):
        at = address - self.word(0)
        return self.page[at:at + length]

    def __getattr__(self, name):
        number = NUMBERS[name]

        def call(*arguments):
            for place in range(6):
                self.set(3 + place, arguments[place] if place < len(arguments) else 0)
            self.set(NUMBER, number)
            self.set(STATE, 1)
            until(lambda: not self.word(STATE), f"the captured agent to call {name}")
            return self.word(RESULT)
        return call

    # ---- what it finds ----

    def fds(self, *kinds):
        """Its descriptors that lead to something whose name begins so."""
        found = []
        directory = f"/proc/{self.lab.agent.pid}/fd"
        for fd in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"{directory}/{fd}").startswith(kinds):
                    found.append(int(fd))
        return sorted(found)

    def message(self, data, address=b"", control=0):
        """The address of a struct msghdr, and that of its control bytes."""
        vector = self.buffer(struct.pack("=QQ", self.buffer(data), len(data) or 1))
        name = self.buffer(address) if address else 0
        room = self.buffer(control) if control else 0
        return self.buffer(struct.pack("=QIxxxxQQQQixxxx", name, len(address), vector, 1, room,
                                       control, 0)), room
