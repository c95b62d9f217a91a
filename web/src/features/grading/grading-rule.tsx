import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { FieldValue } from "@/kit/field-value";
import { Figure } from "@/kit/figure";
import { GenericRecord } from "@/kit/generic-record";
import { gotQuery } from "@/kit/got";
import { GradingTable } from "@/kit/grading-table";
import { useResource } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { Empty, Loaded } from "@/kit/states";

type Rule = Schema<"customer.GradingRule"> & RecordJson;
type Grading = Schema<"customer.AccountGrading">;

/** A rule of grading: points by fact, levels by points, and what it makes of a customer. */
export function GradingRulePage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("gradingRules");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      banner={(record) => <Levels rule={record as Rule} />}
      more={(record) =>
        record["state"] === "ACTIVE"
          ? [{ key: "try", label: t("grading.try"), content: <Trial rule={record.name} /> }]
          : []
      }
    />
  );
}

/** From how many points on a customer has which level, the highest first. */
function Levels({ rule }: { rule: Rule }) {
  const { t } = useText();
  const level = useResource("gradingRules")
    .fields.find(({ name }) => name === "grades")
    ?.fields.find(({ name }) => name === "level");
  const grades = (rule.grades ?? []).toSorted((one, other) => (other.points ?? 0) - (one.points ?? 0));
  if (!level || grades.length === 0) return null;
  return (
    <div className="figures" role="group" aria-label={t("grading.levels")}>
      {grades.map((grade) => (
        <div key={grade.level} className="card figure">
          <strong>
            <FieldValue field={level} value={grade.level} />
          </strong>
          <span className="faint">{t("grading.from", { points: grade.points ?? 0 })}</span>
        </div>
      ))}
    </div>
  );
}

function Trial({ rule }: { rule: string }) {
  const { t } = useText();
  const [account, setAccount] = useState("");
  const grading = useQuery({
    ...gotQuery<Grading>(["record", account, "grading"], `/v1/${account}:grading`),
    enabled: account !== "",
  });
  const level = useResource("accounts").fields.find(({ name }) => name === "level");
  return (
    <section className="card card-body stack">
      <label htmlFor="grading-account">{t("grading.account")}</label>
      <ReferencePicker
        id="grading-account"
        collection="accounts"
        value={account}
        onChange={(next) => setAccount(typeof next === "string" ? next : "")}
      />
      {account && (
        <Loaded query={grading}>
          {(found) =>
            found.rule !== rule ? (
              <Empty title={t("grading.notFor")} />
            ) : (
              <>
                <div className="figures" role="status">
                  <Figure label={t("grading.byRule")}>
                    {level && <FieldValue field={level} value={found.byRule} />}
                  </Figure>
                  <Figure label={t("grading.now")}>
                    {level && <FieldValue field={level} value={found.level} />}
                  </Figure>
                  <Figure label={t("grading.points")}>{found.points ?? 0}</Figure>
                </div>
                <GradingTable results={found.results ?? []} points={found.points ?? 0} />
              </>
            )
          }
        </Loaded>
      )}
    </section>
  );
}
