# libnbd's Python, as client-load.mjs: client.py PORT DEPTH BYTES SECONDS
import json, random, resource, sys, time
import nbd

port, depth, size, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
handle = nbd.NBD()
handle.connect_tcp("127.0.0.1", port)
slots = handle.get_size() // size


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def load(seconds):
    start, before, requests, flying = time.time(), cpu(), 0, []
    while time.time() - start < seconds:
        while len(flying) < depth:
            buffer = nbd.Buffer(size)
            flying.append((handle.aio_pread(buffer, random.randrange(slots) * size), buffer))
        handle.poll(-1)
        left = [one for one in flying if not handle.aio_command_completed(one[0])]
        requests += len(flying) - len(left)
        flying = left
    return {"requests": requests, "seconds": time.time() - start, "cpuSeconds": cpu() - before}


load(0.2)
print(json.dumps(load(seconds)))
