# A disk in memory for nbdkit's python plugin, to compare with examples/ram.ts.
import nbdkit

API_VERSION = 2

disk = None


def config(key, value):
    global disk
    if key == "size":
        disk = bytearray(nbdkit.parse_size(value))
    else:
        raise RuntimeError("unknown parameter " + key)


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def open(readonly):
    return 1


def get_size(handle):
    return len(disk)


def pread(handle, buf, offset, flags):
    buf[:] = disk[offset : offset + len(buf)]


def pwrite(handle, buf, offset, flags):
    disk[offset : offset + len(buf)] = buf
