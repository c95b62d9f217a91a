import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import en from "./en.json";
import zh from "./zh-CN.json";

const flatten = (tree: object, path = ""): [string, string][] =>
  Object.entries(tree).flatMap(([key, value]: [string, unknown]) =>
    typeof value === "object" && value !== null
      ? flatten(value, `${path}${key}.`)
      : [[`${path}${key}`, String(value)]],
  );
const keys = (tree: object) =>
  [...new Set(flatten(tree).map(([key]) => key.replace(/_(one|other)$/, "")))].toSorted();
const holes = (text: string) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1]).toSorted();

const sources = readdirSync("src", { recursive: true, encoding: "utf8" })
  .filter((path) => /\.tsx?$/.test(path) && !path.endsWith(".test.ts"))
  .map((path) => readFileSync(join("src", path), "utf8"))
  .join("\n");

describe("the catalogues of texts", () => {
  it("have the same keys in both languages", () => {
    expect(keys(zh)).toEqual(keys(en));
  });

  it("have no empty text and the same placeholders in both languages", () => {
    const chinese = new Map(flatten(zh));
    for (const [key, text] of flatten(en)) {
      expect(text, key).not.toBe("");
      const other = chinese.get(key) ?? chinese.get(key.replace(/_one$/, "_other")) ?? "";
      expect(
        holes(other).filter((hole) => hole !== "count"),
        key,
      ).toEqual(holes(text).filter((hole) => hole !== "count"));
    }
  });

  it("have every key that the client asks for", () => {
    const known = new Set(keys(zh));
    const asked = [...sources.matchAll(/\bt\(\s*"([a-zA-Z]+\.[\w.+-]+)"/g)].map((match) => match[1]);
    expect(asked.filter((key) => key !== undefined && !known.has(key))).toEqual([]);
  });

  it("have no key that nobody asks for", () => {
    const families = [...sources.matchAll(/\bt\(\s*`([a-zA-Z.]+)\.\$\{/g)].map(
      (match) => `${match[1] ?? ""}.`,
    );
    const quoted = new Set([...sources.matchAll(/"(?=([^"\s]+)")/g)].map((match) => match[1]));
    const unused = keys(zh).filter(
      (key) => !quoted.has(key) && !families.some((family) => key.startsWith(family)),
    );
    expect(unused).toEqual([]);
  });
});
