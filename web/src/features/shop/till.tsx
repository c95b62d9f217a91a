import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState, type FormEvent } from "react";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Page } from "@/kit/page";
import { ReferencePicker } from "@/kit/reference-picker";
import { ErrorNote } from "@/kit/states";
import { BasketLines } from "./basket-lines";
import { ask, askBasket, suggested, type Basket, type Shopping } from "./store";

const PLACES = ["RETAIL", "HOME", "WAREHOUSE"] as const;

/** Selling on the spot: code, Enter, quantity, Enter. What is typed ahead is sent in its order, one after the other. */
export function TillPage() {
  const { t } = useText();
  const client = useQueryClient();
  const [channel, setChannel] = useState<(typeof PLACES)[number]>("RETAIL");
  const [account, setAccount] = useState("");
  const [failure, setFailure] = useState<unknown>();
  const [sold, setSold] = useState<Schema<"sales.BuyBasketResponse">>();
  const [code, setCode] = useState("");
  const [quantity, setQuantity] = useState("");
  const [waiting, setWaiting] = useState(0);
  const codeBox = useRef<HTMLInputElement>(null);
  const quantityBox = useRef<HTMLInputElement>(null);
  const shopping: Shopping = { channel, ...(account ? { account } : {}) };
  const key = ["till", channel, account];
  const basket = useQuery({ queryKey: key, queryFn: () => askBasket("open", () => shopping) });
  const ideas = useQuery({
    queryKey: ["till-ideas", account],
    queryFn: () => suggested({ account, channel }),
    enabled: account !== "",
  });

  useEffect(() => codeBox.current?.focus(), []);
  const put = async (more: object) => {
    setWaiting((count) => count + 1);
    setSold(undefined);
    try {
      client.setQueryData(key, await askBasket("put", () => shopping, more));
      setFailure(undefined);
    } catch (error) {
      setFailure(error);
    } finally {
      setWaiting((count) => count - 1);
    }
  };
  const enter = (event: FormEvent) => {
    event.preventDefault();
    if (code.trim() === "") return codeBox.current?.focus();
    if (document.activeElement === codeBox.current) return quantityBox.current?.focus();
    void put({ code: code.trim(), quantity: quantity.trim() || "1" });
    setCode("");
    setQuantity("");
    codeBox.current?.focus();
  };
  const sell = async (shown: Basket) => {
    setFailure(undefined);
    try {
      setSold(await ask("buy", { shopping, digest: shown.digest, grossTotal: shown.grossTotal }));
    } catch (error) {
      setFailure(error);
    } finally {
      void basket.refetch();
      codeBox.current?.focus();
    }
  };
  const lines = basket.data?.lines ?? [];
  return (
    <Page title={t("page.till")}>
      <div className="stack">
        <section className="card" aria-label={t("till.entry")}>
          <div className="card-body stack">
            <div className="row">
              <select
                className="input"
                aria-label={t("till.channel")}
                value={channel}
                onChange={(event) => setChannel(event.target.value as (typeof PLACES)[number])}
              >
                {PLACES.map((one) => (
                  <option key={one} value={one}>
                    {t(`till.place.${one}`)}
                  </option>
                ))}
              </select>
              <label htmlFor="till-account">{t("till.account")}</label>
              <ReferencePicker
                id="till-account"
                collection="accounts"
                value={account}
                onChange={(value) => setAccount(String(value ?? ""))}
              />
            </div>
            <form className="row" onSubmit={enter}>
              <label htmlFor="till-code">{t("till.code")}</label>
              <input
                id="till-code"
                ref={codeBox}
                className="input"
                autoComplete="off"
                value={code}
                onChange={(event) => setCode(event.target.value)}
              />
              <label htmlFor="till-quantity">{t("shop.quantity")}</label>
              <input
                id="till-quantity"
                ref={quantityBox}
                className="input shop-quantity"
                inputMode="decimal"
                autoComplete="off"
                placeholder="1"
                value={quantity}
                onChange={(event) => setQuantity(event.target.value)}
              />
              <button type="submit" className="button">
                {t("till.add")}
              </button>
            </form>
            {failure !== undefined && <ErrorNote error={failure} />}
            {sold && <p role="status">{t("till.sold", { number: sold.number })}</p>}
            {(ideas.data?.suggestions ?? []).length > 0 && (
              <div className="row">
                <span className="faint">{t("till.ideas")}</span>
                {(ideas.data?.suggestions ?? []).map(({ offer, ground }) => (
                  <button
                    key={offer?.product}
                    type="button"
                    className="button button-small"
                    title={t(`shop.ground.${ground}`)}
                    onClick={() => put({ product: offer?.product, quantity: "1" })}
                  >
                    {offer?.displayName}
                  </button>
                ))}
              </div>
            )}
          </div>
        </section>
        <section className="card" aria-label={t("shop.basket")} data-waiting={waiting}>
          <div className="card-body stack">
            {lines.length === 0 ? (
              <p className="faint">{t("shop.empty")}</p>
            ) : (
              basket.data && (
                <>
                  <BasketLines
                    basket={basket.data}
                    onQuantity={(name, many) => put({ key: name, quantity: many })}
                  />
                  <div>
                    <button
                      type="button"
                      className="button button-primary"
                      disabled={waiting > 0 || account === ""}
                      title={account === "" ? t("till.chooseAccount") : undefined}
                      onClick={() => void sell(basket.data)}
                    >
                      {t("till.sell")}
                    </button>
                  </div>
                </>
              )
            )}
          </div>
        </section>
      </div>
    </Page>
  );
}
