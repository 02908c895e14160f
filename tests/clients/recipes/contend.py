"""contend.py SERVERS ROUNDS [PATTERN]…: takes kazoo's lock at /lock and checks by /checker that nobody else is inside."""
import sys

from kazoo.client import KazooClient

servers, rounds, patterns = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
client = KazooClient(hosts=servers)
client.start(timeout=60)
lock = client.Lock("/lock", extra_lock_patterns=patterns)
for _ in range(rounds):
    with lock:
        data, stat = client.get("/checker")
        assert data == b"free", data
        client.set("/checker", b"kazoo", version=stat.version)
        client.set("/checker", b"free", version=stat.version + 1)
client.stop()
