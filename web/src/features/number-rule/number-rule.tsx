import type { Json, RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { FieldValue } from "@/kit/field-value";
import { History } from "@/kit/history";
import { columnOf, PlainTable } from "@/kit/plain-table";
import { useResource } from "@/kit/queries";
import { RecordFrame } from "@/kit/record-frame";
import { Empty } from "@/kit/states";

/** A rule of numbers: what it gives, what is odd in what it gave, and how its counters were moved. */
export function NumberRulePage({ name }: { name: string }) {
  const { t, label } = useText();
  const resource = useResource("numberRules");
  const called = (field: string) => {
    const found = resource.fields.find((one) => one.name === field);
    return found ? label(found.label) : field;
  };
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={["example", "examples", "check", "advances"]}
      tabs={(record) => [
        { key: "examples", label: called("examples"), content: <Examples record={record} /> },
        { key: "check", label: called("check"), content: <Check record={record} /> },
        {
          key: "advances",
          label: called("advances"),
          content: (
            <Rows
              caption={called("advances")}
              field="advances"
              rows={(record["advances"] ?? []) as Json[]}
              none={t("numberRule.noAdvances")}
            />
          ),
        },
        { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
      ]}
    />
  );
}

function Examples({ record }: { record: RecordJson }) {
  return (
    <section className="card card-body">
      <ol className="numbers">
        {((record["examples"] ?? []) as string[]).map((number) => (
          <li key={number}>
            <code>{number}</code>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Check({ record }: { record: RecordJson }) {
  const { t, label } = useText();
  const check = record["check"] as Json | undefined;
  const field = useResource("numberRules").fields.find(({ name }) => name === "check");
  if (!check || !field)
    return (
      <section className="card">
        <Empty title={t("numberRule.unchecked")} text={t("numberRule.uncheckedText")} />
      </section>
    );
  const figures = fieldsNamed(field.fields, ["askedTime", "time", "numbers", "strangers", "missing"]);
  return (
    <div className="stack">
      <div className="card card-body" role="status">
        <dl className="pairs">
          {figures.map((one) => (
            <div key={one.name}>
              <dt>{label(one.label)}</dt>
              <dd>
                <FieldValue field={one} value={check[one.name]} />
              </dd>
            </div>
          ))}
        </dl>
      </div>
      {!check["time"] ? (
        <p className="faint" role="status">
          {t("numberRule.underWay")}
        </p>
      ) : (
        <Rows
          caption={t("numberRule.findings")}
          field="check.findings"
          rows={(check["findings"] ?? []) as Json[]}
          none={t("numberRule.nothingOdd")}
        />
      )}
    </div>
  );
}

/** The rows of a list of the rule, as a table. */
function Rows({
  caption,
  field,
  rows,
  none,
}: {
  caption: string;
  field: string;
  rows: Json[];
  none: string;
}) {
  const { label } = useText();
  const { fields } = useResource("numberRules");
  const inner = field
    .split(".")
    .reduce((found, name) => found.find((one) => one.name === name)?.fields ?? [], fields);
  return (
    <section className="card">
      {rows.length === 0 ? (
        <Empty title={none} />
      ) : (
        <div className="card-body">
          <PlainTable
            caption={caption}
            rows={rows}
            keyOf={(_, index) => index}
            stacked
            columns={inner.map((one) => columnOf(one, label))}
          />
        </div>
      )}
    </section>
  );
}
