"""Short messages to people outside: an HTTP contract, with a local implementation that drops them into the file store.

`POST {MESSENGER_URL}/messages` with `{"channel": "SMS" | "EMAIL", "to": …, "text": …}`; any 2xx is accepted. Without
`MESSENGER_URL` every message is a JSON file under `messages/` in the store at `FILES_URL`.
"""

import io
import json

import httpx
import obstore
from crmkit.call import Call
from crmkit.errors import Unavailable
from uuid_utils.compat import uuid7

PATIENCE = 10.0


async def send(channel: str, to: str, content: str, call: Call) -> None:
    """Hands a message over; Unavailable where the other side does not take it."""
    body = {"channel": channel, "to": to, "text": content}
    if url := call.running.settings.messenger_url:
        try:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                (await client.post(f"{url.rstrip('/')}/messages", json=body)).raise_for_status()
        except httpx.HTTPError:
            raise Unavailable("UNAVAILABLE") from None
        return
    data = json.dumps(body, ensure_ascii=False).encode()
    await obstore.put_async(call.running.store, f"messages/{uuid7()}.json", io.BytesIO(data))
