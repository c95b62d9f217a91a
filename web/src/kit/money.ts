import { numberFormat } from "./formatters";

/** Money is a decimal string with a currency; it never passes through a float. */
export interface Money {
  currencyCode: string;
  amount: string;
}

const PLACES: Record<string, number> = { JPY: 0, KRW: 0, VND: 0, KWD: 3, BHD: 3 };

export const placesOf = (currency: string) => PLACES[currency] ?? 2;

/**
 * What a person typed → a decimal string with the places of the currency, or null where it is no amount.
 * Reads group separators, full-width digits and a leading currency sign.
 */
export function parseAmount(typed: string, currency = "CNY"): string | null {
  const text = typed
    .normalize("NFKC")
    .replace(/[\s,，'’]/g, "")
    .replace(/^([+-]?)[¥￥$€£]/, "$1");
  const match = /^([+-]?)(\d*)(?:\.(\d*))?$/.exec(text);
  if (!match || (!match[2] && !match[3])) return null;
  const places = placesOf(currency);
  const fraction = (match[3] ?? "").replace(/0+$/, "");
  if (fraction.length > Math.max(places, 0)) return null;
  const whole = (match[2] || "0").replace(/^0+(?=\d)/, "");
  const amount = places > 0 ? `${whole}.${fraction.padEnd(places, "0")}` : whole;
  return match[1] === "-" && /[1-9]/.test(amount) ? `-${amount}` : amount;
}

/** `1234567.50 CNY` → `¥1,234,567.50`, exact to the last digit. */
export function formatMoney(money: Partial<Money> | null | undefined, locale: string): string {
  if (!money?.amount) return "";
  const currency = money.currencyCode || "CNY";
  const places = Math.max(placesOf(currency), (money.amount.split(".")[1] ?? "").replace(/0+$/, "").length);
  return numberFormat(locale, {
    style: "currency",
    currency,
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  }).format(money.amount as `${number}`);
}

/** For tiles and chart axes: 万 and 亿 in Chinese, K and M in English. */
export function formatShort(amount: string, currency: string, locale: string): string {
  return numberFormat(locale, {
    style: "currency",
    currency,
    currencyDisplay: "narrowSymbol",
    notation: "compact",
    maximumFractionDigits: 1,
  }).format(amount as `${number}`);
}

/** Adds decimal strings exactly. */
export function addAmounts(amounts: readonly string[]): string {
  const places = Math.max(0, ...amounts.map((amount) => (amount.split(".")[1] ?? "").length));
  const total = amounts.reduce((sum, amount) => sum + scaled(amount, places), 0n);
  return unscaled(total, places);
}

/** Multiplies two decimal strings and rounds half up to the places given. */
export function multiply(left: string, right: string, places: number): string {
  const [leftPlaces, rightPlaces] = [left, right].map((value) => (value.split(".")[1] ?? "").length) as [
    number,
    number,
  ];
  const product = scaled(left, leftPlaces) * scaled(right, rightPlaces);
  const surplus = leftPlaces + rightPlaces - places;
  if (surplus <= 0) return unscaled(product * 10n ** BigInt(-surplus), places);
  const unit = 10n ** BigInt(surplus);
  const half = product < 0n ? -unit / 2n : unit / 2n;
  return unscaled((product + half) / unit, places);
}

function scaled(amount: string, places: number): bigint {
  const [whole = "0", fraction = ""] = amount.replace("-", "").split(".");
  const value = BigInt((whole || "0") + fraction.padEnd(places, "0").slice(0, places));
  return amount.startsWith("-") ? -value : value;
}

function unscaled(value: bigint, places: number): string {
  const digits = (value < 0n ? -value : value).toString().padStart(places + 1, "0");
  const text = places > 0 ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits;
  return value < 0n ? `-${text}` : text;
}
