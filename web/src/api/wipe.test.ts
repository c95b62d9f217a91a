import { expect, it } from "vitest";
import { writeDraft, readDraft } from "@/kit/drafts";
import { context, request } from "./client";
import { readError } from "./errors";
import { wipe, wipes } from "./wipe";

const refusal = (reason: string) => ({
  error: { status: "UNAUTHENTICATED", details: [{ "@type": "…/google.rpc.ErrorInfo", reason }] },
});

it("drops what is kept on the device, and only for reasons that say so", async () => {
  const said: string[] = [];
  context.onSignedOut = (why) => void said.push(why.reason);
  globalThis.fetch = (async () =>
    new Response(JSON.stringify(refusal("EMPLOYEE_FROZEN")), { status: 401 })) as typeof fetch;
  await expect(request("/v1/tasks")).rejects.toMatchObject({ reason: "EMPLOYEE_FROZEN" });
  expect(said).toEqual(["EMPLOYEE_FROZEN"]);

  const why = readError(401, refusal("SESSION_EXPIRED"), (reason) => reason);
  expect([why.reason, "SESSION_LIMIT", "STEP_UP_REQUIRED"].filter(wipes)).toEqual([]);
  expect(["EMPLOYEE_FROZEN", "SESSION_ENDED", "DEVICE_REVOKED"].every(wipes)).toBe(true);

  writeDraft("employees/1", "accounts/new", { values: { displayName: "秘密" }, base: {}, time: "" });
  localStorage.setItem("guanxi.punches", "[]");
  await wipe();
  expect(readDraft("employees/1", "accounts/new")).toBeNull();
  expect(localStorage.length).toBe(0);
});
