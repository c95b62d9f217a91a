import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { AdviceProps } from "@/advice";
import { useText } from "@/i18n";
import { post } from "@/kit/got";
import { formatMoney, type Money } from "@/kit/money";
import { bodyOf } from "@/kit/patch";
import { useSettled } from "@/kit/settled";
import { LastPrices } from "./last-prices";
import { PriceTable, type Quote } from "./price-table";

const ASKED = [
  "account",
  "contact",
  "opportunity",
  "channel",
  "currency",
  "lines",
  "validUntilDate",
  "channelPartner",
  "coupons",
  "orderDiscount",
  "orderDiscountPercent",
];

/** What the lines cost as they stand, by the prices and policies of today; nothing is stored. */
export function PriceAdvice({ values }: AdviceProps) {
  const { t, language } = useText();
  const lines = ((values["lines"] as Record<string, unknown>[] | undefined) ?? []).filter(
    (line) => line["quantity"] && (line["product"] || line["bundle"] || line["description"]),
  );
  const body = JSON.stringify(bodyOf({ ...values, lines }, ASKED));
  const settled = useSettled(body);
  const asks = Boolean(values["account"]) && lines.length > 0;
  const answer = useQuery({
    queryKey: ["quote-price", settled],
    queryFn: () => post<Quote>("/v1/quotes:calculate", { quote: JSON.parse(settled) as object }),
    enabled: asks && settled === body,
    // What is half typed has no price yet: the form itself says what is wrong with it.
    retry: false,
    placeholderData: keepPreviousData,
  });
  const products = [...new Set(lines.map((line) => String(line["product"] ?? "")).filter(Boolean))];
  if (!asks) return null;
  return (
    <aside className="card price-advice" aria-label={t("price.title")}>
      <div className="card-head">
        <h2>{t("price.title")}</h2>
        <span className="grow" />
        <strong role="status">
          {answer.data?.grossTotal && formatMoney(answer.data.grossTotal as Money, language)}
        </strong>
      </div>
      <div className="card-body stack">
        {answer.isError && <p className="field-error">{answer.error.message}</p>}
        {answer.data && <PriceTable quote={answer.data} />}
        <LastPrices
          account={String(values["account"])}
          products={products}
          currency={String(values["currency"] ?? "")}
        />
      </div>
    </aside>
  );
}
