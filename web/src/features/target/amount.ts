import { useText } from "@/i18n";
import { formatMoney, formatShort } from "@/kit/money";
import type { Target } from "./target";
import { numberFormat } from "@/kit/formatters";

/** How the values of a target are written: as money where its metric is money, else as numbers. */
export function useAmount({ currency }: Pick<Target, "currency">) {
  const { language } = useText();
  const number = (value: string) => numberFormat(language).format(Number(value));
  const blank = (value: string | undefined): value is undefined => value === undefined || value === "";
  return {
    exact: (value: string | undefined) =>
      blank(value)
        ? ""
        : currency
          ? formatMoney({ amount: value, currencyCode: currency }, language)
          : number(value),
    short: (value: string | undefined) =>
      blank(value) ? "—" : currency ? formatShort(value, currency, language) : number(value),
  };
}
