import { expect, it } from "vitest";

// Outside of a browser no request has a page to be relative to.
const Absolute = globalThis.Request;
globalThis.Request = class extends Absolute {
  constructor(input: RequestInfo | URL, init?: RequestInit) {
    super(typeof input === "string" ? new URL(input, "http://localhost") : input, init);
  }
};
const { act } = await import("./client");

it("says of a claim without a network that it needs one, asks once and keeps nothing for later", async () => {
  const asked: string[] = [];
  globalThis.fetch = (async (request: Request) => {
    asked.push(request.url);
    throw new TypeError("Failed to fetch");
  }) as typeof fetch;
  await expect(act("accounts/1", "claim", {})).rejects.toMatchObject({
    status: 0,
    reason: "ONLINE_REQUIRED",
  });
  await expect(act("accounts/1", "protect", {})).rejects.toMatchObject({ reason: "UNREACHABLE" });
  expect([localStorage.length, sessionStorage.length]).toEqual([0, 0]);

  globalThis.dispatchEvent(new Event("online"));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(asked.map((url) => new URL(url).pathname)).toEqual([
    "/v1/accounts/1:claim",
    "/v1/accounts/1:protect",
  ]);
});
