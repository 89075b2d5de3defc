"""Hands a command to the server: warm_client.py SOCKET PROGRAM WORDS. Signals go to the process that runs it."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    asked = {"words": sys.argv[2:], "folder": str(Path.cwd()), "environment": dict(os.environ)}
    socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
    process = int.from_bytes(connection.recv(8), "big")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(process, number))
    code = connection.recv(1)
sys.exit(code[0] if code else "the process that ran it died")
