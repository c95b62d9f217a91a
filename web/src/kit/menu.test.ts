import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readCatalogue, type OpenApi } from "@/api/catalogue";
import type { Session } from "@/api/session";
import { MENU } from "@/resources";
import { menuOf } from "./menu";

const ROOT = `${import.meta.dirname}/../../..`;
const document = JSON.parse(readFileSync(`${ROOT}/gateway/openapi.json`, "utf8")) as OpenApi;
const catalogue = readCatalogue(document, () => ({}));

/** What each shipped role permits, by the matrix that is made of the protos and the roles. */
const [head = "", ...lines] = readFileSync(`${ROOT}/docs/access-matrix.csv`, "utf8").trim().split("\n");
const columns = head.split(",");
const holds = (role: string): string[] => {
  const at = columns.indexOf(role);
  expect(at).toBeGreaterThan(0);
  const rows = lines.map((line) => line.trim().split(","));
  const given = rows.filter((row) => row[at] !== "-").map((row) => row[1] ?? "");
  // "*" stands for operations that everybody may call.
  return given.filter((permission) => !["*", "public"].includes(permission));
};

const session = (permissions: string[]): Session => ({
  employee: "employees/x",
  account: "",
  contact: "",
  displayName: "x",
  roles: [],
  roleNames: {},
  permissions,
  scope: "OWN",
  locale: "zh-CN",
  csrf: "",
  session: "",
});
const menu = (permissions: string[]) => menuOf(catalogue, session(permissions));
const paths = (permissions: string[]) =>
  menu(permissions).flatMap((group) => group.entries.map((entry) => entry.path));
const area = (key: string) => catalogue.find(key)?.area;
const neededFor = (entry: string): string => {
  const page = MENU.flatMap((group) => group.pages ?? []).find(({ key }) => key === entry);
  return catalogue.find(page?.needs ?? entry)?.permissions[page?.to ?? "read"] ?? "";
};

describe("the menu", () => {
  it.each(columns.slice(4))("of %s has what the role may read and nothing else", (role) => {
    const permissions = holds(role);
    for (const entry of menu(permissions).flatMap((group) => group.entries))
      expect(permissions, entry.key).toContain(neededFor(entry.key));
    const shown = new Set(menu(permissions).flatMap((group) => group.entries.map(({ key }) => key)));
    const all = menu(["*"]).flatMap((group) => group.entries.map(({ key }) => key));
    const missing = all.filter((key) => !shown.has(key) && permissions.includes(neededFor(key)));
    expect(missing).toEqual([]);
  });

  it("of a system administrator shows nothing of the business", () => {
    const entries = menu(holds("system_administrator")).flatMap((group) => group.entries);
    expect(entries.map(({ key }) => key)).toContain("roles");
    expect(entries.filter(({ key }) => ![undefined, "workspace"].includes(area(key)))).toEqual([]);
    expect(paths(holds("system_administrator"))).not.toContain("/funnel");
  });

  it("loses a group with the last entry that somebody may read", () => {
    expect(menu(["billing.invoices.read"]).map(({ key }) => key)).toEqual(["money"]);
    expect(menu(["billing.invoices.create"])).toEqual([]);
    expect(menu([])).toEqual([]);
  });
});

describe("a permission", () => {
  it("is told in words, whichever it is", () => {
    const unsaid = catalogue.permissions.filter((one) => catalogue.permissionText(one).zh === one);
    expect(unsaid.filter((one) => !["public", "anybody"].includes(one))).toEqual([]);
  });
});
