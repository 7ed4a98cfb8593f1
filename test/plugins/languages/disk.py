# A disk in Python that needs C extensions (each of which binds to the interpreter's symbols) and
# has threads of its own, one of which never ends; it says every call from load to unload.
import asyncio
import ctypes
import decimal
import errno
import hashlib
import json
import socket
import sqlite3
import ssl
import sys
import threading
import time

import nbdkit

API_VERSION = 2
disk = bytearray(1 << 20)


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def for_ever():
    while True:
        time.sleep(0.01)


threading.Thread(target=for_ever, daemon=True).start()


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def load():
    say("load", decimal.Decimal("0.1") + decimal.Decimal("0.2"), ctypes.sizeof(ctypes.c_long))


def unload():
    say("unload")


def dump_plugin():
    print("openssl=" + ssl.OPENSSL_VERSION)


def config(key, value):
    if key != "word":
        raise RuntimeError("no parameter " + key)
    say("config", key, json.dumps(value))


def config_complete():
    say("config_complete", sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()[0])


async def answer():
    await asyncio.sleep(0)
    return hashlib.sha256(b"disk").hexdigest()


def get_ready():
    say("get_ready", asyncio.run(answer()))


def after_fork():
    pair = socket.socketpair()
    pair[0].send(ssl.RAND_bytes(8))
    say("after_fork", len(pair[1].recv(64)))


def cleanup():
    say("cleanup")


def list_exports(readonly, is_tls):
    return [("one", "the first"), "two"]


def open(readonly):
    say("open", readonly, nbdkit.export_name())
    return object()


def close(h):
    say("close")


def get_size(h):
    return len(disk)


def pread(h, buf, offset, flags):
    if offset == 666 * 512:
        nbdkit.set_error(errno.ENOSPC)
        raise RuntimeError("this sector is cursed")
    worker = threading.Thread(target=lambda: buf.__setitem__(slice(None), disk[offset:offset + len(buf)]))
    worker.start()
    worker.join()


def pwrite(h, buf, offset, flags):
    disk[offset:offset + len(buf)] = buf


def zero(h, count, offset, flags):
    disk[offset:offset + count] = bytes(count)


def extents(h, count, offset, flags):
    return [(offset, count, 0 if any(disk[offset:offset + count]) else 3)]
