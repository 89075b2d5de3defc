"""A WebSocket server: each message is a block of 16 kHz mono float32, and is answered by its 48 kHz.

pip install websockets; python websocket_server.py
"""

import asyncio

import numpy as np
from websockets.asyncio.server import serve

from latentsr import Live, Pipeline

pipe = Pipeline.from_pretrained(heads=["live"])


async def restore(socket) -> None:
    live = Live(pipe, sample_rate=16_000, channels=1)
    async for message in socket:
        await socket.send(live.process(np.frombuffer(message, np.float32)).tobytes())


async def main() -> None:
    async with serve(restore, "127.0.0.1", 8765) as server:
        await server.serve_forever()


asyncio.run(main())
