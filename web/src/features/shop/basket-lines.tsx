import { useText } from "@/i18n";
import { formatMoney } from "@/kit/money";
import type { Basket } from "./store";

interface Props {
  basket: Basket;
  onQuantity: (key: string, quantity: string) => void;
}

/** What is in a basket, with what is taken off and what it comes to. */
export function BasketLines({ basket, onQuantity }: Props) {
  const { t, language } = useText();
  const lines = basket.lines ?? [];
  const money = (amount: Parameters<typeof formatMoney>[0]) => formatMoney(amount, language);
  return (
    <>
      <table className="plain-table shop-lines">
        <thead>
          <tr>
            <th scope="col">{t("shop.item")}</th>
            <th scope="col" className="number">
              {t("shop.price")}
            </th>
            <th scope="col" className="number">
              {t("shop.quantity")}
            </th>
            <th scope="col" className="number">
              {t("shop.amount")}
            </th>
            <th scope="col" aria-label={t("shop.remove")} />
          </tr>
        </thead>
        <tbody>
          {lines.map((line) => (
            <tr key={line.key} className={basket.touched === line.key ? "touched" : undefined}>
              <td>
                {line.description || line.product}
                {line.gone && <div className="field-error">{t("shop.gone")}</div>}
                {line.priceMissing && <div className="field-error">{t("shop.priceMissing")}</div>}
                {(line.discounts ?? []).map((one, place) => (
                  <div key={place} className="faint">
                    {one.label} {money(one.amount)}
                  </div>
                ))}
              </td>
              <td className="number">{money(line.unitPrice)}</td>
              <td className="number">
                {line.freeWith || line.gone ? (
                  line.quantity
                ) : (
                  <input
                    key={line.quantity}
                    className="input shop-quantity"
                    inputMode="decimal"
                    aria-label={`${t("shop.quantity")} ${line.description ?? ""}`}
                    defaultValue={line.quantity}
                    onBlur={(event) => {
                      const quantity = event.target.value.trim();
                      if (quantity !== line.quantity) onQuantity(line.key ?? "", quantity || "0");
                    }}
                    onKeyDown={(event) => event.key === "Enter" && event.currentTarget.blur()}
                  />
                )}
              </td>
              <td className="number">{money(line.netAmount)}</td>
              <td>
                {!line.freeWith && (
                  <button
                    type="button"
                    className="button button-small"
                    aria-label={`${t("shop.remove")} ${line.description ?? ""}`}
                    onClick={() => onQuantity(line.key ?? "", "0")}
                  >
                    ×
                  </button>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {(basket.hints ?? []).map((hint) => (
        <p key={`${hint.line}${hint.label}`} className="faint">
          {t("shop.hint", { count: Number(hint.addQuantity), saving: money(hint.saving) })}
        </p>
      ))}
      <dl className="pairs shop-totals" aria-live="polite">
        <dt>{t("shop.discount")}</dt>
        <dd>{money(basket.discountTotal)}</dd>
        <dt>{t("shop.net")}</dt>
        <dd>{money(basket.netTotal)}</dd>
        <dt>{t("shop.tax")}</dt>
        <dd>{money(basket.taxTotal)}</dd>
        <dt>{t("shop.gross")}</dt>
        <dd>
          <strong>{money(basket.grossTotal)}</strong>
        </dd>
      </dl>
    </>
  );
}
