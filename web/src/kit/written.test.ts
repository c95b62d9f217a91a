import { QueryClient } from "@tanstack/react-query";
import { describe, expect, it } from "vitest";
import { takeWritten } from "./written";

const NAME = "calls/one";
const old = { name: NAME, etag: "9", state: "DIALLING", note: "kept" };

function client() {
  const made = new QueryClient();
  made.setQueryData(["record", NAME], old);
  made.setQueryData(["list", "calls", "first", {}], { records: [old], nextPageToken: "" });
  made.setQueryData(["list", "calls", "pages", {}], { pages: [{ records: [old] }], pageParams: [""] });
  return made;
}

const seen = (of: QueryClient) => [
  of.getQueryData(["record", NAME]),
  of.getQueryData<{ records: unknown[] }>(["list", "calls", "first", {}])?.records[0],
  of.getQueryData<{ pages: { records: unknown[] }[] }>(["list", "calls", "pages", {}])?.pages[0]?.records[0],
];

describe("what a write answers", () => {
  it("stands at once wherever the record is shown", () => {
    const kept = client();
    takeWritten(kept, "calls", [{ name: NAME, etag: "10", state: "ENDED" }]);
    const now = { ...old, etag: "10", state: "ENDED" };
    expect(seen(kept)).toEqual([now, now, now]);
  });

  it("never takes the place of something later", () => {
    const kept = client();
    takeWritten(kept, "calls", [{ name: NAME, etag: "8", state: "RINGING" }]);
    expect(seen(kept)).toEqual([old, old, old]);
  });

  it("leaves all as it was where it was refused, but for being asked again", () => {
    const kept = client();
    takeWritten(kept, "calls", [{ name: NAME }]);
    expect(seen(kept)).toEqual([old, old, old]);
    expect(kept.getQueryState(["record", NAME])?.isInvalidated).toBe(true);
  });
});
