"""Hands a command to the server: client.py SOCKET PROGRAM WORDS."""

import json
import os
import socket
import sys
from pathlib import Path

with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    asked = {"words": sys.argv[2:], "folder": str(Path.cwd()), "environment": dict(os.environ)}
    socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
    code = connection.recv(1)
sys.exit(code[0] if code else "the process that ran it died")
