"""People at the API: somebody signed in, who creates, reads and acts over HTTP as a client would."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

PATIENCE = 60.0


class Refusal(Exception):
    """An answer that is an error: its HTTP status, reason and text."""

    def __init__(self, response: httpx.Response) -> None:
        error = response.json()["error"]
        self.status = response.status_code
        self.message: str = error["message"]
        details: list[dict[str, Any]] = error["details"]
        self.reason: str = next(d["reason"] for d in details if "reason" in d)
        self.fields = {v["field"]: v.get("reason") for d in details for v in d.get("fieldViolations", [])}
        super().__init__(f"{self.status} {self.reason} {self.message} {self.fields or ''}")


@dataclass
class Person:
    """Somebody signed in. Every write carries an idempotency key, every change the etag that was seen."""

    http: httpx.Client
    token: Callable[[], str]
    locale: str = "zh-CN"

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The raw answer; one that came too late is asked for again with the same key, as clients do."""
        headers = {
            "Authorization": f"Bearer {self.token()}",
            "Accept-Language": self.locale,
            **({"Idempotency-Key": uuid4().hex} if method != "GET" else {}),
            **options.pop("headers", {}),
        }
        for pause in (0.5, 2.0, 5.0):
            answer = self.http.request(method, path, headers=headers, **options)
            if answer.status_code not in (503, 504):
                break
            time.sleep(pause)
        return answer

    def take(self, method: str, path: str, **options: Any) -> Any:
        """The body of a good answer; Refusal otherwise."""
        response = self.ask(method, path, **options)
        if response.status_code >= 400:
            raise Refusal(response)
        return response.json() if response.content else None

    def create(self, collection: str, **fields: Any) -> dict[str, Any]:
        """A new record."""
        return self.take("POST", f"/v1/{collection}", json=fields)

    def read(self, name: str) -> dict[str, Any]:
        """A record by name."""
        return self.take("GET", f"/v1/{name}")

    def change(self, record: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Changes fields of a record as it was seen."""
        return self.take(
            "PATCH", f"/v1/{record['name']}", json=fields, headers={"If-Match": f'"{record["etag"]}"'}
        )

    def do(self, record: dict[str, Any], verb: str, **fields: Any) -> dict[str, Any]:
        """A verb on a record as it was seen."""
        headers = {"If-Match": f'"{record["etag"]}"'}
        return self.take("POST", f"/v1/{record['name']}:{verb}", json=fields, headers=headers)

    def list(self, collection: str, **query: Any) -> list[dict[str, Any]]:
        """The first page of a collection."""
        return self.take("GET", f"/v1/{collection}", params=query).get(collection, [])

    def await_one(self, collection: str, **query: Any) -> dict[str, Any]:
        """The record that a fact brings, as soon as it is there."""
        return eventually(lambda: next(iter(self.list(collection, **query)), None), f"{collection} {query}")


def eventually(check: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Waits until the check gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"it has not happened: {what}")
        time.sleep(0.1)
    return found
