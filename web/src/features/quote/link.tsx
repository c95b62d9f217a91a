import { useMutation } from "@tanstack/react-query";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { post } from "@/kit/got";
import { ErrorNote } from "@/kit/states";
import { tell } from "@/kit/toasts";

/** An address with which the customer opens the quote without signing in. It is shown once. */
export function BuyerLink({ quote }: { quote: string }) {
  const { t, language } = useText();
  const made = useMutation({
    mutationFn: () => post<Schema<"sales.CreateQuoteLinkResponse">>(`/v1/${quote}:createLink`, {}),
  });
  // What stands behind the number sign is sent to no server, and stands in no log.
  const address = made.data && `${location.origin}${import.meta.env.BASE_URL}q#${made.data.token ?? ""}`;
  return (
    <section className="card card-body stack">
      <p className="faint">{t("buyer.linkText")}</p>
      {made.isError && <ErrorNote error={made.error} />}
      {address ? (
        <>
          <input
            className="public-input"
            readOnly
            aria-label={t("buyer.link")}
            value={address}
            onFocus={(event) => event.target.select()}
          />
          <p className="faint">{t("buyer.until", { time: formatInstant(made.data.expireTime, language) })}</p>
          <div className="row">
            <button
              type="button"
              className="button button-primary"
              onClick={() => void navigator.clipboard.writeText(address).then(() => tell(t("action.copied")))}
            >
              {t("action.copyLink")}
            </button>
          </div>
        </>
      ) : (
        <div className="row">
          <button
            type="button"
            className="button button-primary"
            disabled={made.isPending}
            onClick={() => made.mutate()}
          >
            {t("buyer.make")}
          </button>
        </div>
      )}
    </section>
  );
}
