import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { FieldValue, Reference } from "@/kit/field-value";
import { formatMoney, type Money } from "@/kit/money";
import { PlainTable } from "@/kit/plain-table";
import { useResource } from "@/kit/queries";

export type Quote = Schema<"sales.Quote">;
type Line = Schema<"sales.Quote.Line">;

/** Each line with its price, why it is so, what is too cheap and what would make it cheaper. */
export function PriceTable({ quote }: { quote: Quote }) {
  const { t, language } = useText();
  const sources = useResource("quotes")
    .fields.find(({ name }) => name === "lines")
    ?.fields.find(({ name }) => name === "priceSource");
  const money = (value: Partial<Money> | undefined) => formatMoney(value, language) || "—";
  return (
    <>
      <PlainTable
        caption={t("price.title")}
        rows={quote.lines ?? []}
        keyOf={({ key }, index) => key ?? index}
        columns={[
          {
            key: "line",
            title: t("quote.line"),
            row: true,
            cell: (line) => <LineText line={line} quote={quote} />,
            total: t("form.total"),
          },
          {
            key: "source",
            title: t("price.source"),
            cell: ({ priceSource }) =>
              sources && priceSource && <FieldValue field={sources} value={priceSource} />,
          },
          ...(["list", "discount", "net", "gross"] as const).map((key) => ({
            key,
            title: t(`price.${key}`),
            number: true,
            cell: (line: Line) => money(line[`${key}Amount`]),
            total: money(quote[`${key}Total`]),
          })),
        ]}
      />
      {quote.belowFloor && <p className="note note-bad">{t("price.floorText")}</p>}
      {quote.overLimit && <p className="note">{t("price.limitText")}</p>}
    </>
  );
}

/** What is sold, what is too cheap in it, what would make it cheaper, and why it costs so much. */
function LineText({ line, quote }: { line: Line; quote: Quote }) {
  const { t, language } = useText();
  const cost = (quote.lineCosts ?? []).find((one) => one.line === line.key);
  const hints = (quote.hints ?? []).filter((one) => one.line === line.key);
  return (
    <>
      {line.description || (line.product && <Reference name={line.product} link={false} />)}
      {line.quantity && <span className="faint"> × {Number(line.quantity)}</span>}
      {cost?.belowFloor && (
        <>
          {" "}
          <span className="tag tag-bad">{t("price.belowFloor")}</span>
        </>
      )}
      {cost?.marginPercent && (
        <span className="faint"> {t("price.margin", { percent: Number(cost.marginPercent) })}</span>
      )}
      {hints.map((hint) => (
        <p key={hint.label} className="price-hint">
          {t("price.hint", {
            quantity: Number(hint.addQuantity),
            saving: formatMoney(hint.saving, language),
            label: hint.label,
          })}
        </p>
      ))}
      <Why line={line} quote={quote} />
    </>
  );
}

/** The chain from the list price to the net amount, and which policies did not apply. */
function Why({ line, quote }: { line: Line; quote: Quote }) {
  const { t, language, comma } = useText();
  const steps = line.trace ?? [];
  const grounds = (quote.grounds ?? []).filter((ground) => ground.line === line.key);
  const rejected = grounds.flatMap((ground) => ground.rejected ?? []);
  if (steps.length === 0) return null;
  const most = Math.max(1, ...steps.map((step) => Math.abs(Number(step.after?.amount ?? 0))));
  return (
    <details className="nested-rows price-why">
      <summary>{t("price.why")}</summary>
      <ol>
        {steps.map((step) => {
          const why = grounds.find((ground) => ground.kind === step.kind)?.why;
          return (
            <li key={step.seq}>
              <span>
                {t(`code.${step.kind ?? ""}`, { defaultValue: step.kind ?? "" })}{" "}
                <span className="faint">
                  {[step.label, step.effect, why].filter((text) => text && text !== step.kind).join(" · ")}
                </span>
              </span>
              <span className="funnel-bar" aria-hidden="true">
                <span style={{ width: `${(Math.abs(Number(step.after?.amount ?? 0)) / most) * 100}%` }} />
              </span>
              <span className="number">{formatMoney(step.adjustment, language)}</span>
              <strong className="number">{formatMoney(step.after, language)}</strong>
            </li>
          );
        })}
      </ol>
      {rejected.length > 0 && (
        <p className="faint">
          {t("price.rejected")}{" "}
          {rejected
            .map(
              (one) =>
                `${one.label || ""} (${t(`price.reason.${one.reason ?? ""}`, { defaultValue: one.reason ?? "" })})`,
            )
            .join(comma)}
        </p>
      )}
    </details>
  );
}
