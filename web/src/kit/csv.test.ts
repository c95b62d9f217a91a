import { expect, it } from "vitest";
import { readCsv } from "./csv";

it("reads quotes, commas and line breaks inside cells", () => {
  expect(readCsv('\uFEFF名称,备注\r\n"引""号","一,二\n三"\r\n')).toEqual([
    ["名称", "备注"],
    ['引"号', "一,二\n三"],
  ]);
});

it("reads files with other line ends, empty lines and a last line without an end", () => {
  expect(readCsv("a,b\r\n\r\n1,2")).toEqual([
    ["a", "b"],
    ["1", "2"],
  ]);
  expect(readCsv("a,b\n1,2\n3,4", 2)).toHaveLength(2);
});
