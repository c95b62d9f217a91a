import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "@/api/schema";
import { sessionQuery, signInUrl } from "@/api/session";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { LanguageSwitch } from "@/kit/language-switch";
import { formatMoney } from "@/kit/money";
import { ErrorNote, Skeleton } from "@/kit/states";
import { BasketLines } from "./basket-lines";
import { Configure } from "./configure";
import { ask, askBasket, browse, ordered, suggested, visitor, type Basket, type Offer } from "./store";

const OFFERS = 24;
// How often somebody who has gone to pay is looked after, in milliseconds.
const UNTIL_PAID = 3000;

/** The web shop: whoever comes looks, configures and fills a basket; a known customer buys. */
export function ShopPage() {
  const { t } = useText();
  const session = useQuery(sessionQuery);
  return (
    <main className="public shop">
      <div className="public-language">
        <LanguageSwitch />
      </div>
      <h1>{t("shop.title")}</h1>
      {session.isPending ? <Skeleton lines={8} /> : <Shop known={Boolean(session.data)} />}
    </main>
  );
}

function Shop({ known }: { known: boolean }) {
  const { t } = useText();
  const client = useQueryClient();
  const [q, setQ] = useState("");
  const [category, setCategory] = useState("");
  const [failure, setFailure] = useState<unknown>();
  const [params, go] = useAddress();
  const page = useQuery({
    queryKey: ["shop", q, category, known],
    queryFn: () => browse({ q, category, pageSize: String(OFFERS) }),
    placeholderData: (before) => before,
  });
  const basket = useQuery({ queryKey: ["basket", known], queryFn: () => askBasket("open", visitor) });
  const ideas = useQuery({ queryKey: ["shop-ideas", known], queryFn: () => suggested({}), enabled: known });

  const put = async (more: object) => {
    setFailure(undefined);
    go({ order: "" });
    try {
      client.setQueryData(["basket", known], await askBasket("put", visitor, more));
    } catch (error) {
      setFailure(error);
    }
  };
  const buy = async (shown: Basket) => {
    setFailure(undefined);
    try {
      const bought = await ask<Schema<"sales.BuyBasketResponse">>("buy", {
        shopping: visitor(),
        digest: shown.digest,
        consent: t("shop.consent"),
        grossTotal: shown.grossTotal,
      });
      go({ order: bought.quote ?? "" });
    } catch (error) {
      setFailure(error);
    } finally {
      void basket.refetch();
    }
  };
  return (
    <div className="shop-columns">
      <section className="stack" aria-label={t("shop.goods")}>
        <div className="row">
          <input
            className="input"
            type="search"
            aria-label={t("shop.search")}
            placeholder={t("shop.search")}
            value={q}
            onChange={(event) => setQ(event.target.value)}
          />
          <select
            className="input"
            aria-label={t("shop.category")}
            value={category}
            onChange={(event) => setCategory(event.target.value)}
          >
            <option value="">{t("shop.everything")}</option>
            {(page.data?.categories ?? []).map((one) => (
              <option key={one.category} value={one.category}>
                {one.displayName}
              </option>
            ))}
          </select>
        </div>
        {page.isError && <ErrorNote error={page.error} onRetry={() => void page.refetch()} />}
        {page.isPending && <Skeleton lines={6} />}
        {page.data && (page.data.offers ?? []).length === 0 && <p>{t("shop.nothing")}</p>}
        {(ideas.data?.suggestions ?? []).length > 0 && (
          <div className="stack">
            <h2>{t("shop.forYou")}</h2>
            <div className="shop-grid">
              {(ideas.data?.suggestions ?? []).map(({ offer, ground }) => (
                <Card key={offer?.product} offer={offer ?? {}} note={t(`shop.ground.${ground}`)} put={put} />
              ))}
            </div>
          </div>
        )}
        <div className="shop-grid">
          {(page.data?.offers ?? []).map((offer) => (
            <Card key={offer.product || offer.bundle} offer={offer} put={put} />
          ))}
        </div>
      </section>
      <section className="card shop-basket" aria-label={t("shop.basket")}>
        <div className="card-head">
          <h2>{t("shop.basket")}</h2>
        </div>
        <div className="card-body stack">
          {failure !== undefined && <ErrorNote error={failure} />}
          {known && params.get("order") && <Ordered quote={params.get("order") ?? ""} />}
          {(basket.data?.lines ?? []).length === 0 ? (
            <p className="faint">{t("shop.empty")}</p>
          ) : (
            basket.data && (
              <>
                <BasketLines
                  basket={basket.data}
                  onQuantity={(key, quantity) => void put({ key, quantity })}
                />
                <p className="faint">{t("shop.consent")}</p>
                {known ? (
                  <button
                    type="button"
                    className="button button-primary"
                    onClick={() => void buy(basket.data)}
                  >
                    {t("shop.buy")}
                  </button>
                ) : (
                  <a className="button button-primary" href={signInUrl("/shop")}>
                    {t("shop.signIn")}
                  </a>
                )}
              </>
            )
          )}
        </div>
      </section>
    </div>
  );
}

/** What was bought last: its number, where to pay, and once the payment service has told of it that it is paid. */
function Ordered({ quote }: { quote: string }) {
  const { t, language } = useText();
  const order = useQuery({
    queryKey: ["shop-order", quote],
    queryFn: () => ordered(quote),
    refetchInterval: (query) => (query.state.data?.payLink ? UNTIL_PAID : false),
  });
  if (!order.data) return order.isError ? <ErrorNote error={order.error} /> : <Skeleton lines={2} />;
  const { number, payLink, paidTotal } = order.data;
  const back = `${window.location.origin}/shop?order=${encodeURIComponent(quote)}`;
  return (
    <div role="status" className="stack">
      <p>{t("shop.bought", { number })}</p>
      {Number(paidTotal?.amount ?? 0) > 0 && (
        <p>{t("shop.paid", { amount: formatMoney(paidTotal, language) })}</p>
      )}
      {payLink && (
        <a className="button button-primary" href={`${payLink}&back=${encodeURIComponent(back)}`}>
          {t("shop.pay")}
        </a>
      )}
    </div>
  );
}

function Card({ offer, note, put }: { offer: Offer; note?: string; put: (more: object) => Promise<void> }) {
  const { t, language } = useText();
  const [open, setOpen] = useState(false);
  return (
    <article className="card shop-offer">
      <div className="card-body stack">
        <h3>{offer.displayName}</h3>
        {note && <span className="faint">{note}</span>}
        {offer.description && <p className="faint">{offer.description}</p>}
        {offer.bundle ? (
          open ? (
            <Configure offer={offer} onPut={(choices) => void put({ bundle: offer.bundle, choices })} />
          ) : (
            <button type="button" className="button" onClick={() => setOpen(true)}>
              {t("shop.configure")}
            </button>
          )
        ) : offer.unitPrice ? (
          <div className="row">
            <strong>{formatMoney(offer.unitGross, language)}</strong>
            <span className="faint">{t("shop.withTax")}</span>
            <button
              type="button"
              className="button"
              aria-label={`${t("shop.put")} ${offer.displayName ?? ""}`}
              onClick={() => void put({ product: offer.product, quantity: "1", unitPrice: offer.unitPrice })}
            >
              {t("shop.put")}
            </button>
          </div>
        ) : (
          <span className="faint">{t("shop.priceMissing")}</span>
        )}
      </div>
    </article>
  );
}
