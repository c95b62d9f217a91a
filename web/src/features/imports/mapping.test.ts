import { expect, it } from "vitest";
import type { Field } from "@/api/catalogue";
import { guessMapping } from "./mapping";

const field = (name: string, zh: string, en: string) => ({ name, label: { zh, en } }) as Field;
const FIELDS = [
  field("displayName", "客户名称", "Name"),
  field("phones", "电话", "Phones"),
  field("industry", "行业", "Industry"),
];

it("maps columns by their name in either language, however they are spelt", () => {
  expect(guessMapping(["客户 名称*", "Industry", "备注"], FIELDS)).toEqual({
    "客户 名称*": "displayName",
    Industry: "industry",
  });
});

it("prefers the exact name and takes each field once", () => {
  expect(guessMapping(["联系电话", "电话", "name"], FIELDS)).toEqual({ 电话: "phones", name: "displayName" });
});
