"""Drives cli_mt: each command is typed when the answer to the one before has been seen."""
import os
import subprocess
import sys

STORY = [
    ("", "Got a new session id"),
    ("create /cli", "[/cli]: rc = 0"),
    ("create /cli", "[/cli]: rc = -110"),
    ("set /cli hello", "/cli: rc = 0"),
    ("get /cli", "value_len = 5"),
    ("create +e /cli/e", "[/cli/e]: rc = 0"),
    ("ls /cli", "\te"),
    ("delete /cli", "-111"),
    ("exists /cli/none", "-101"),
]

process = subprocess.Popen(
    ["stdbuf", "-oL", sys.argv[1], "--host", os.environ["ZOO_ADDR"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
)
seen = []
for command, answer in STORY:
    if command:
        process.stdin.write(command + "\n")
        process.stdin.flush()
    for line in process.stdout:
        seen.append(line)
        if answer in line:
            break
    else:
        sys.exit("cli_mt ended before it said %r:\n%s" % (answer, "".join(seen)))
process.stdin.write("quit\n")
process.stdin.close()
process.stdout.read()
process.wait()
print("cli_mt: all well")
