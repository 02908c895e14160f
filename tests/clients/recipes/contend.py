"""contend.py WHAT SERVERS ROUNDS [PATTERN]…: takes its turns under a recipe of kazoo's and checks that it is alone, or not one too many."""
import os
import sys

from kazoo.client import KazooClient

what, servers, rounds, patterns = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
me = str(os.getpid())
client = KazooClient(hosts=servers)
client.start(timeout=60)


def alone():
    data, stat = client.get("/checker")
    assert data == b"free", data
    client.set("/checker", b"kazoo", version=stat.version)
    client.set("/checker", b"free", version=stat.version + 1)


def no_writer():
    data, stat = client.get("/checker")
    assert data == b"free", data
    assert client.get("/checker")[1].version == stat.version


def locked():
    lock = client.Lock("/lock", extra_lock_patterns=patterns)
    for _ in range(rounds):
        with lock:
            alone()


def read_write():
    for _ in range(rounds):
        with client.WriteLock("/lock"):
            alone()
        with client.ReadLock("/lock"):
            no_writer()


def elected():
    election = client.Election("/lock", me)
    election.lock = client.Lock("/lock", me, extra_lock_patterns=patterns)
    for _ in range(rounds):
        election.run(alone)


def counted():
    counter = client.Counter("/count")
    for _ in range(rounds):
        counter += 1


def queued():
    queue = client.LockingQueue("/queue")
    for n in range(rounds):
        queue.put(f"{me}-{n}".encode())
    while client.get("/checker")[0] == b"free":
        item = queue.get(timeout=1)
        if item is not None:
            client.create(f"/done/{item.decode()}")
            assert queue.consume()


def barred():
    barrier = client.Barrier("/barrier")
    client.create("/waits")
    assert barrier.wait(timeout=60)
    client.create("/passed")
    barrier.create()
    client.create("/closed")
    while not client.exists("/open"):
        pass
    barrier.remove()


{"lock": locked, "read-write": read_write, "election": elected, "count": counted, "queue": queued, "barrier": barred}[what]()
client.stop()
