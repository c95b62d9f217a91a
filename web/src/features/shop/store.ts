import { request } from "@/api/client";
import type { Schema } from "@/api/schema";

export type Basket = Schema<"sales.ShopBasket">;
export type Offer = Schema<"sales.ShopOffer">;
export type Shopping = Schema<"sales.Shopping">;

const KEPT = "guanxi.shop";

/** Who shops: a visitor by the token of his basket, which joins the basket of the person once he signs in. */
export const visitor = (): Shopping => {
  const token = localStorage.getItem(KEPT);
  return token ? { token } : {};
};

/** Asks the shop; a basket that answers with a token is kept for the next visit, one without has found its owner. */
export async function ask<T>(verb: string, body: object): Promise<T> {
  const response = await request(`/v1/shop:${verb}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() },
    body: JSON.stringify(body),
  });
  return (await response.json()) as T;
}

let before: Promise<unknown> = Promise.resolve();

/** One after the other: each knows the token that the one before has brought, and no older basket comes last. */
export function askBasket(verb: "open" | "put", who: () => Shopping, more: object = {}): Promise<Basket> {
  const asked = before.then(async () => {
    const shopping = who();
    const basket = await ask<Basket>(verb, { shopping, ...more });
    if (basket.token) localStorage.setItem(KEPT, basket.token);
    else if (shopping.token) localStorage.removeItem(KEPT);
    return basket;
  });
  before = asked.catch(() => undefined);
  return asked;
}

export async function browse(asked: Record<string, string>): Promise<Schema<"sales.BrowseShopResponse">> {
  const query = new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== ""));
  return (await (await request(`/v1/shop:browse?${query}`)).json()) as Schema<"sales.BrowseShopResponse">;
}

/** What was bought, and what of it is paid. */
export async function ordered(quote: string): Promise<Schema<"sales.BuyBasketResponse">> {
  const query = new URLSearchParams({ quote });
  return (await (await request(`/v1/shop:order?${query}`)).json()) as Schema<"sales.BuyBasketResponse">;
}

export async function suggested(asked: Record<string, string>): Promise<Schema<"sales.SuggestShopResponse">> {
  const query = new URLSearchParams(asked);
  return (await (await request(`/v1/shop:suggest?${query}`)).json()) as Schema<"sales.SuggestShopResponse">;
}
