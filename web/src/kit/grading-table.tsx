import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { FieldValue } from "./field-value";
import { PlainTable } from "./plain-table";
import { useResource } from "./queries";
import { numberFormat } from "./formatters";

type Result = NonNullable<Schema<"customer.AccountGrading">["results"]>[number];

/** What each fact gave, with the points of all. */
export function GradingTable({ results, points }: { results: Result[]; points: number }) {
  const { t, label, language } = useText();
  const inner = useResource("accountGrades").fields.find(({ name }) => name === "results")?.fields ?? [];
  const measure = inner.find(({ name }) => name === "measure");
  const called = (name: string) => {
    const field = inner.find((one) => one.name === name);
    return field ? label(field.label) : name;
  };
  return (
    <PlainTable
      caption={t("grading.results")}
      rows={results}
      keyOf={({ measure }, index) => measure ?? index}
      columns={[
        {
          key: "measure",
          title: called("measure"),
          row: true,
          cell: (one) => measure && <FieldValue field={measure} value={one.measure} />,
        },
        {
          key: "value",
          title: called("value"),
          number: true,
          cell: (one) =>
            one.value ? numberFormat(language).format(Number(one.value)) : t("grading.unknown"),
        },
        {
          key: "points",
          title: called("points"),
          number: true,
          cell: (one) => one.points ?? 0,
          total: points,
        },
      ]}
    />
  );
}
