import { useQuery } from "@tanstack/react-query";
import { BulbOutlined } from "@ant-design/icons";
import { useText } from "@/i18n";
import { FieldValue, Reference } from "./field-value";
import { quote } from "./filter";
import { firstPageQuery, useResource } from "./queries";
import { VerbBar } from "./verbs";

const SHOWN = 5;

/** What a customer may buy next and why; each can be taken or dismissed where it stands. Absent where there is nothing. */
export function UpsellHints({ account }: { account: string }) {
  const { t, language } = useText();
  const resource = useResource("upsellProposals");
  const kind = resource.fields.find(({ name }) => name === "kind");
  const hints = useQuery(
    firstPageQuery("upsellProposals", {
      filter: `account = ${quote(account)} AND state = "OPEN"`,
      pageSize: SHOWN,
    }),
  ).data;
  if (!hints || hints.records.length === 0) return null;
  return (
    <section className="card" aria-label={t("upsell.title")}>
      <div className="card-head">
        <h2>
          <BulbOutlined aria-hidden="true" /> {t("upsell.title")}
        </h2>
      </div>
      <ul className="card-body hints">
        {hints.records.map((hint) => (
          <li key={hint.name} className="stack">
            <p className="row">
              <strong>
                <Reference name={String(hint["product"] || hint["contract"])} />
              </strong>
              {kind && (
                <span className="tag tag-calm">
                  <FieldValue field={kind} value={hint["kind"]} />
                </span>
              )}
            </p>
            <p>{String((language === "en" && hint["reasonEn"]) || hint["reason"] || "")}</p>
            <div className="row">
              <VerbBar resource={resource} record={hint} second />
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}
