# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machines of tests/kernels and tests/systemd have in common."""


class Booted:
    """A machine with boot() and close(): it boots for a `with`, and nothing of it stays behind."""

    def __enter__(self):
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *unused):
        self.close()
