import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { formatMoney } from "@/kit/money";

type Found = Schema<"sales.ListLastPricesResponse">;

/** What this customer paid for the same things last time. */
export function LastPrices({
  account,
  products,
  currency,
}: {
  account: string;
  products: string[];
  currency: string;
}) {
  const { t, language } = useText();
  const query = new URLSearchParams([
    ["account", account],
    ...products.map((product) => ["products", product]),
    ...(currency ? [["currency", currency]] : []),
  ]).toString();
  const prices = useQuery({
    ...gotQuery<Found>(["list", "quotes", "last", query], `/v1/quotes:lastPrices?${query}`),
    enabled: products.length > 0,
    retry: false,
  }).data?.prices;
  if (!prices || prices.length === 0) return null;
  return (
    <ul className="stack-small" aria-label={t("price.last")}>
      {prices.map((price) => (
        <li key={price.product} className="faint">
          <Reference name={price.product ?? ""} link={false} />
          {" · "}
          {price.found ? (
            <>
              {t("price.lastPaid", {
                price: formatMoney(price.netUnitPrice, language),
                quantity: Number(price.quantity),
                time: formatInstant(price.time, language),
              })}{" "}
              {price.employee && <Reference name={price.employee} link={false} />}{" "}
              {price.document && <Link to={`/${price.document}`}>{price.number || t("action.open")}</Link>}
            </>
          ) : (
            t("price.never")
          )}
          {price.suggestedPrice?.amount &&
            ` · ${t("price.suggested", { price: formatMoney(price.suggestedPrice, language) })}`}
        </li>
      ))}
    </ul>
  );
}
