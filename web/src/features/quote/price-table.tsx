import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { FieldValue, Reference } from "@/kit/field-value";
import { formatMoney, type Money } from "@/kit/money";
import { useResource } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";

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
      <ScrollBox label={t("price.title")}>
        <table className="plain">
          <caption className="visually-hidden">{t("price.title")}</caption>
          <thead>
            <tr>
              <th scope="col">{t("quote.line")}</th>
              <th scope="col">{t("price.source")}</th>
              {["list", "discount", "net", "gross"].map((key) => (
                <th key={key} scope="col" className="number">
                  {t(`price.${key}`)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {(quote.lines ?? []).map((line, index) => {
              const cost = (quote.lineCosts ?? []).find((one) => one.line === line.key);
              const hints = (quote.hints ?? []).filter((one) => one.line === line.key);
              return (
                <tr key={line.key ?? index}>
                  <th scope="row">
                    {line.description || (line.product && <Reference name={line.product} link={false} />)}
                    {line.quantity && <span className="faint"> × {Number(line.quantity)}</span>}
                    {cost?.belowFloor && (
                      <>
                        {" "}
                        <span className="tag tag-bad">{t("price.belowFloor")}</span>
                      </>
                    )}
                    {cost?.marginPercent && (
                      <span className="faint">
                        {" "}
                        {t("price.margin", { percent: Number(cost.marginPercent) })}
                      </span>
                    )}
                    {hints.map((hint) => (
                      <p key={hint.label} className="price-hint">
                        {t("price.hint", {
                          quantity: Number(hint.addQuantity),
                          saving: money(hint.saving),
                          label: hint.label,
                        })}
                      </p>
                    ))}
                    <Why line={line} quote={quote} />
                  </th>
                  <td>
                    {sources && line.priceSource && <FieldValue field={sources} value={line.priceSource} />}
                  </td>
                  <td className="number">{money(line.listAmount)}</td>
                  <td className="number">{money(line.discountAmount)}</td>
                  <td className="number">{money(line.netAmount)}</td>
                  <td className="number">{money(line.grossAmount)}</td>
                </tr>
              );
            })}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row" colSpan={2}>
                {t("form.total")}
              </th>
              <td className="number">{money(quote.listTotal)}</td>
              <td className="number">{money(quote.discountTotal)}</td>
              <td className="number">{money(quote.netTotal)}</td>
              <td className="number">{money(quote.grossTotal)}</td>
            </tr>
          </tfoot>
        </table>
      </ScrollBox>
      {quote.belowFloor && <p className="note note-bad">{t("price.floorText")}</p>}
      {quote.overLimit && <p className="note">{t("price.limitText")}</p>}
    </>
  );
}

/** The chain from the list price to the net amount, and which policies did not apply. */
function Why({ line, quote }: { line: Line; quote: Quote }) {
  const { t, language } = useText();
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
            .join("、")}
        </p>
      )}
    </details>
  );
}
