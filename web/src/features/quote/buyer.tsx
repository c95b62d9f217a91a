import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import type { Schema } from "@/api/schema";
import { ApiError } from "@/api/errors";
import { useText } from "@/i18n";
import { formatDate, type DateJson } from "@/kit/dates";
import { post } from "@/kit/got";
import { LanguageSwitch } from "@/kit/language-switch";
import { formatMoney } from "@/kit/money";
import { PlainTable } from "@/kit/plain-table";
import { ErrorNote, Skeleton } from "@/kit/states";
import type { Quote } from "./price-table";

type Opened = Schema<"sales.OpenQuoteLinkResponse">;

/** What a customer sees who has the link to a quote: the offer, and ways to say yes and no. */
export function BuyerPage() {
  const { t } = useText();
  const [token] = useState(() => location.hash.slice(1));
  const opened = useQuery({
    queryKey: ["quote-link", token],
    queryFn: () => post<Opened>("/v1/quotes:openLink", { token }),
    retry: false,
  });
  const known = opened.error instanceof ApiError && opened.error.status > 0 && opened.error.status < 500;
  return (
    <main className="public">
      <div className="public-language">
        <LanguageSwitch />
      </div>
      {opened.isError ? (
        <section className="card public-card">
          <h1>{t("buyer.away")}</h1>
          {known ? (
            <p>{t("buyer.awayText")}</p>
          ) : (
            <ErrorNote error={opened.error} onRetry={() => void opened.refetch()} />
          )}
        </section>
      ) : opened.isPending ? (
        <Skeleton lines={8} />
      ) : (
        <Offer token={token} opened={opened.data} />
      )}
    </main>
  );
}

function Offer({ token, opened }: { token: string; opened: Opened }) {
  const { t, language } = useText();
  const quote = opened.quote as Quote;
  const accepted = quote.state === "ACCEPTED";
  return (
    <section className="card public-card">
      <h1>
        {quote.displayName} <span className="faint">{quote.number}</span>
      </h1>
      {quote.validUntilDate && (
        <p className="faint">
          {t("buyer.valid", { date: formatDate(quote.validUntilDate as DateJson, language) })}
        </p>
      )}
      {accepted && (
        <p className="note note-info" role="status">
          {t("buyer.accepted", { person: quote.acceptance?.person ?? "" })}
        </p>
      )}
      {quote.state === "REJECTED" && (
        <p className="note note-info" role="status">
          {t("buyer.rejected")}
        </p>
      )}
      {!accepted && quote.state !== "REJECTED" && !opened.acceptable && (
        <p className="note" role="status">
          {t("buyer.over")} {opened.validNumber && t("buyer.instead", { number: opened.validNumber })}
        </p>
      )}
      <Lines quote={quote} />
      {quote.terms && <p className="public-consent">{quote.terms}</p>}
      {opened.acceptable && <Yes token={token} quote={quote} />}
      {opened.acceptable && <No token={token} />}
    </section>
  );
}

function Lines({ quote }: { quote: Quote }) {
  const { t, language } = useText();
  const money = (value: Parameters<typeof formatMoney>[0]) => formatMoney(value, language);
  return (
    <>
      <PlainTable
        caption={t("buyer.lines")}
        stacked
        rows={quote.lines ?? []}
        keyOf={({ key }, index) => key ?? index}
        columns={[
          { key: "line", title: t("quote.line"), row: true, cell: ({ description }) => description },
          {
            key: "quantity",
            title: t("buyer.quantity"),
            number: true,
            cell: ({ quantity, unit }) => `${Number(quantity)} ${unit ?? ""}`,
          },
          { key: "net", title: t("price.net"), number: true, cell: ({ netAmount }) => money(netAmount) },
        ]}
      />
      <dl className="public-totals">
        <dt>{t("price.net")}</dt>
        <dd>{money(quote.netTotal)}</dd>
        <dt>{t("buyer.tax")}</dt>
        <dd>{money(quote.taxTotal)}</dd>
        <dt>{t("price.gross")}</dt>
        <dd>
          <strong>{money(quote.grossTotal)}</strong>
        </dd>
      </dl>
    </>
  );
}

/** The customer's yes to exactly what is shown, with a name and the words that are agreed to. */
function Yes({ token, quote }: { token: string; quote: Quote }) {
  const { t } = useText();
  const client = useQueryClient();
  const [person, setPerson] = useState("");
  const [agreed, setAgreed] = useState(false);
  const [missing, setMissing] = useState("");
  const consent = t("buyer.consent", { number: quote.number ?? "" });
  const accept = useMutation({
    mutationFn: () =>
      post<Opened>("/v1/quotes:acceptLink", { token, digest: quote.digest, person: person.trim(), consent }),
    onSuccess: (opened) => client.setQueryData(["quote-link", token], opened),
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    const wrong = person.trim() === "" ? "buyer.personMissing" : agreed ? "" : "webForm.consentMissing";
    setMissing(wrong && t(wrong));
    if (!wrong) accept.mutate();
  };
  return (
    <form className="stack" noValidate onSubmit={send}>
      {accept.isError && (
        <ErrorNote
          error={accept.error}
          onRetry={() => void client.invalidateQueries({ queryKey: ["quote-link", token] })}
        />
      )}
      <label className="stack-small">
        {t("buyer.person")}
        <input
          className="public-input"
          autoComplete="name"
          maxLength={200}
          value={person}
          onChange={(event) => setPerson(event.target.value)}
        />
      </label>
      <label className="public-agree">
        <input type="checkbox" checked={agreed} onChange={(event) => setAgreed(event.target.checked)} />
        {consent}
      </label>
      {missing && (
        <p className="field-error" role="alert">
          {missing}
        </p>
      )}
      <button type="submit" className="button button-primary" disabled={accept.isPending}>
        {t("buyer.accept")}
      </button>
    </form>
  );
}

/** The customer's no, with the reason that whoever sells learns from. */
function No({ token }: { token: string }) {
  const { t } = useText();
  const client = useQueryClient();
  const [reason, setReason] = useState("");
  const [missing, setMissing] = useState(false);
  const reject = useMutation({
    mutationFn: () => post<Opened>("/v1/quotes:rejectLink", { token, reason: reason.trim() }),
    onSuccess: (opened) => client.setQueryData(["quote-link", token], opened),
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    setMissing(reason.trim() === "");
    if (reason.trim()) reject.mutate();
  };
  return (
    <details className="public-no">
      <summary>{t("buyer.no")}</summary>
      <form className="stack" noValidate onSubmit={send}>
        {reject.isError && (
          <ErrorNote
            error={reject.error}
            onRetry={() => void client.invalidateQueries({ queryKey: ["quote-link", token] })}
          />
        )}
        <label className="stack-small">
          {t("buyer.reason")}
          <textarea
            className="public-input"
            rows={3}
            maxLength={500}
            value={reason}
            onChange={(event) => setReason(event.target.value)}
          />
        </label>
        {missing && (
          <p className="field-error" role="alert">
            {t("buyer.reasonMissing")}
          </p>
        )}
        <button type="submit" className="button" disabled={reject.isPending}>
          {t("buyer.reject")}
        </button>
      </form>
    </details>
  );
}
