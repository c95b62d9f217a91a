import { expect, it } from "vitest";
import { csvOf, readCsv } from "./csv";

it("reads what it writes, with quotes, commas and line breaks inside cells", () => {
  const rows = [
    ["名称", "备注"],
    ['引"号', "一,二\n三"],
  ];
  expect(readCsv(csvOf(rows))).toEqual(rows);
});

it("disarms formulas but leaves numbers alone", () => {
  expect(csvOf([["=1+1", "-5.20", "+86"]])).toBe("\uFEFF'=1+1,-5.20,+86\r\n");
});

it("reads files with other line ends, empty lines and a last line without an end", () => {
  expect(readCsv("a,b\r\n\r\n1,2")).toEqual([
    ["a", "b"],
    ["1", "2"],
  ]);
  expect(readCsv("a,b\n1,2\n3,4", 2)).toHaveLength(2);
});
