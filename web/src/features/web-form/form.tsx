import { useRef, useState, type FormEvent } from "react";
import { useSearchParams } from "react-router";
import type { Schema } from "@/api/schema";
import { request } from "@/api/client";
import { ApiError } from "@/api/errors";
import { useText } from "@/i18n";
import { ErrorNote } from "@/kit/states";
import { Entry } from "./entry";

type Errors = Record<string, string>;

/** The fields of a published form; what is wrong is told at the field, and nothing typed is lost. */
export function Form({ id, view }: { id: string; view: Schema<"marketing.ViewFormResponse"> }) {
  const { t } = useText();
  const [params] = useSearchParams();
  const form = useRef<HTMLFormElement>(null);
  const key = useRef(crypto.randomUUID());
  const [values, setValues] = useState<Record<string, string>>({});
  const [consent, setConsent] = useState(false);
  const [website, setWebsite] = useState("");
  const [errors, setErrors] = useState<Errors>({});
  const [failure, setFailure] = useState<unknown>();
  const [sending, setSending] = useState(false);
  const [thanks, setThanks] = useState<string>();
  const fields = view.fields ?? [];
  const typed = (name = "") => values[name]?.trim() ?? "";

  const fail = (found: Errors) => {
    setErrors(found);
    requestAnimationFrame(() => form.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
  };

  const send = async (event: FormEvent) => {
    event.preventDefault();
    const found: Errors = Object.fromEntries(
      fields
        .filter((field) => field.required && typed(field.key) === "")
        .map((field) => [field.key, t("form.required")]),
    );
    if (view.consentText && !consent) found["consent"] = t("webForm.consentMissing");
    if (Object.keys(found).length > 0) return fail(found);
    setSending(true);
    setFailure(undefined);
    const filled = fields.filter((field) => typed(field.key) !== "");
    try {
      const answer = await request(`/v1/forms/${id}:submit`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": key.current },
        body: JSON.stringify({
          values: filled.map((field) => ({ key: field.key, value: typed(field.key) })),
          consent,
          website,
          source: {
            url: location.href.slice(0, 1000),
            referrer: document.referrer.slice(0, 1000),
            utmSource: params.get("utm_source") ?? "",
            utmMedium: params.get("utm_medium") ?? "",
            utmCampaign: params.get("utm_campaign") ?? "",
          },
        }),
      });
      setThanks(((await answer.json()) as { message?: string }).message || t("webForm.thanks"));
    } catch (error) {
      // What is mended afterwards is another submission.
      key.current = crypto.randomUUID();
      const known = (error instanceof ApiError ? error.violations : []).flatMap(({ field, description }) => {
        const at = /values\[(\d+)\]/.exec(field)?.[1];
        const name = at === undefined ? field.split(".").at(-1) : filled[Number(at)]?.key;
        return fields.some((candidate) => candidate.key === name) ? [[name, description] as const] : [];
      });
      if (known.length > 0) fail(Object.fromEntries(known));
      else setFailure(error);
    } finally {
      setSending(false);
    }
  };

  if (thanks !== undefined)
    return (
      <section className="card public-card" role="status">
        <h1>{view.displayName}</h1>
        <p className="public-thanks">{thanks}</p>
      </section>
    );
  return (
    <form ref={form} className="card public-card" noValidate onSubmit={(event) => void send(event)}>
      <h1>{view.displayName}</h1>
      {failure !== undefined && <ErrorNote error={failure} />}
      {fields.map((field) => (
        <Entry
          key={field.key}
          field={field}
          value={values[field.key ?? ""] ?? ""}
          error={errors[field.key ?? ""]}
          onChange={(value) => {
            setValues((before) => ({ ...before, [field.key ?? ""]: value }));
            setErrors(({ [field.key ?? ""]: _, ...rest }) => rest);
          }}
        />
      ))}
      {/* People do not see it; whoever fills it in is a machine. */}
      <div className="public-trap" aria-hidden="true">
        <label>
          Website
          <input
            tabIndex={-1}
            autoComplete="off"
            value={website}
            onChange={(event) => setWebsite(event.target.value)}
          />
        </label>
      </div>
      {view.consentText && (
        <div className="form-field">
          <p className="public-consent">{view.consentText}</p>
          <label className="public-agree">
            <input
              type="checkbox"
              checked={consent}
              aria-invalid={Boolean(errors["consent"])}
              onChange={(event) => {
                setConsent(event.target.checked);
                setErrors(({ consent: _, ...rest }) => rest);
              }}
            />
            {t("webForm.agree")}
          </label>
          {errors["consent"] && <p className="field-error">{errors["consent"]}</p>}
        </div>
      )}
      <button type="submit" className="button button-primary" disabled={sending}>
        {sending ? t("webForm.sending") : t("webForm.send")}
      </button>
    </form>
  );
}
