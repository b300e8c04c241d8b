"""A lock that one process holds on a folder; the kernel frees it when the process ends, however it ends."""

import contextlib
import errno
import fcntl
import os
import socket

from tfvae.command import UserError

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # of disks that have none


@contextlib.contextmanager
def held(path):
    """Holds the lock file `path`, made and removed here, which says who holds it.

    Raises:
        UserError: another process holds it. OSError: it cannot be written.
    """
    with _open(path) as file:
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _open(path):
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                process, _, host = file.read().strip().partition(" ")
            holder = f"process {process} on {host}" if host else "another process"
            raise UserError(
                f"{path.parent} is being trained by {holder}: expected one training per folder. Wait until it has ended, or give "
                "another --model_dir."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"warning: the disk of {path.parent} has no locks: see that no other training uses it.", flush=True)
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its holder has just ended and removed it
