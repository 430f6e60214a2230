# SPDX-License-Identifier: GPL-2.0-or-later
"""
Run a program as on a kernel before 6.16, which refuses SO_PASSRIGHTS: a socket option that it does
not know.

usage: older.py PROGRAM ARGUMENT...
"""
import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h: a word, by a constant
ALLOW, ERRNO = 0x7fff0000, 0x00050000
NUMBER, OPTION = 0, 32  # in struct seccomp_data, of little-endian machines
SETSOCKOPT = {"x86_64": 54, "aarch64": 208}[os.uname().machine]
SO_PASSRIGHTS = 83

PROGRAM = b"".join(struct.pack("=HBBI", *line) for line in (
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 0, 3, SETSOCKOPT),
    (LOAD, 0, 0, OPTION),
    (EQUAL, 0, 1, SO_PASSRIGHTS),
    (RETURN, 0, 0, ERRNO | errno.ENOPROTOOPT),
    (RETURN, 0, 0, ALLOW)))

if __name__ == "__main__":
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(PROGRAM)
    filter_ = struct.pack("=HxxxxxxQ", len(PROGRAM) // 8, ctypes.addressof(code))
    # As root, which has CAP_SYS_ADMIN, no_new_privs is not needed, and would show.
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(filter_), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")
    os.execv(sys.argv[1], sys.argv[1:])
