import { expect, it } from "vitest";
import { dayOrder, dealsOf, textsOf } from "./deal-rows";

const columns = ["id", "who", "what", "how", "from", "worth"];
const mapping = {
  id: "externalId",
  who: "account",
  what: "product",
  how: "state",
  from: "openDate",
  worth: "amount",
};
const reading = {
  currency: "USD",
  days: "MDY" as const,
  progress: { Won: "WON", Engaging: "OPEN:E" },
  names: { account: { "": "未登记客户" }, product: { GTXPro: "GTX Pro" } },
};

it("reads a line as the import takes it", () => {
  const [deal] = dealsOf(
    [["A1", "Isdom", "GTXPro", "Won", "10/25/2016", "$4,514"]],
    columns,
    mapping,
    reading,
  );
  expect(deal).toEqual({
    line: 2,
    row: {
      externalId: "A1",
      account: "Isdom",
      product: "GTX Pro",
      state: "WON",
      openDate: { year: 2016, month: 10, day: 25 },
      amount: "4514.00",
    },
    said: { account: "Isdom", product: "GTXPro" },
    problems: [],
  });
});

it("gives deals without a customer to the one that was chosen, and a stage to open ones", () => {
  const [deal] = dealsOf([["A2", "", "", "Engaging", "", ""]], columns, mapping, reading);
  expect(deal?.row).toEqual({ externalId: "A2", account: "未登记客户", state: "OPEN", stage: "E" });
});

it("says of a line all that cannot be read, each with what is written there", () => {
  const [deal] = dealsOf([["", "Isdom", "GTXPro", "Maybe", "2/30/2017", "many"]], columns, mapping, reading);
  expect(deal?.problems).toEqual([
    { reason: "STATE_UNKNOWN", text: "Maybe" },
    { reason: "DATE_WRONG", text: "2/30/2017" },
    { reason: "AMOUNT_WRONG", text: "many" },
    { reason: "KEY_MISSING", text: "" },
  ]);
});

it("knows the month where a number above twelve shows it, and asks where none does", () => {
  expect(dayOrder(["1/2/2017", "10/25/2016"])).toEqual({ asked: true, order: "MDY" });
  expect(dayOrder(["25.10.2016"])).toEqual({ asked: true, order: "DMY" });
  expect(dayOrder(["1/2/2017"])).toEqual({ asked: true });
  expect(dayOrder(["2017-01-02", ""])).toEqual({ asked: false });
});

it("lists the texts of a column once", () => {
  expect(
    textsOf(
      [
        ["1", "a"],
        ["2", "b "],
        ["3", "b"],
      ],
      ["n", "t"],
      { t: "state" },
      "state",
    ),
  ).toEqual(["a", "b"]);
  expect(textsOf([["1"]], ["n"], {}, "state")).toEqual([]);
});
