"""kazoo, led by lines on standard input; one line of answer to each."""

import sys

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.protocol.states import KeeperState

STATES = {KeeperState.CONNECTED: "CONNECTED", KeeperState.CONNECTED_RO: "CONNECTEDREADONLY"}
client = None


def carry_out(words):
    global client
    if words[0] == "open":
        client = KazooClient(words[1], timeout=20, read_only=words[2] == "ro", connection_retry={"max_tries": -1, "max_delay": 0.5})
        client.start_async()
        return "ok"
    if words[0] == "state":
        session = client._session_id or 0
        return f"{STATES.get(client.client_state, 'CONNECTING')} {session & (1 << 64) - 1:x}"
    if words[0] == "get":
        return "ok " + client.get(words[1])[0].decode()
    if words[0] == "create":
        client.create(words[1], b"data", ephemeral=words[2] == "e")
        return "ok"
    client.stop()
    client.close()
    return "ok"


for line in sys.stdin:
    try:
        answer = carry_out(line.split())
    except KazooException as error:
        answer = f"err {getattr(error, 'code', 0)}"
    print(answer, flush=True)
