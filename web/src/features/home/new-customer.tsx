import { useQuery } from "@tanstack/react-query";
import { Input } from "antd";
import { useEffect, useRef, useState, type FormEvent } from "react";
import { Link, useNavigate } from "react-router";
import { create } from "@/api/client";
import { ApiError } from "@/api/errors";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { firstPageQuery, titleOf, useCatalogue } from "@/kit/queries";
import { tell } from "@/kit/toasts";

const SETTLE_MS = 250;
const MIN_CHARACTERS = 2;

/** A name and a phone number make a customer; who might be the same stands below while one types. */
export function NewCustomer() {
  const { t, language, label } = useText();
  const navigate = useNavigate();
  const resource = useCatalogue().find("accounts");
  const [name, setName] = useState("");
  const [phone, setPhone] = useState("");
  const [settled, setSettled] = useState("");
  const [errors, setErrors] = useState<{ name?: string; phone?: string; other?: string }>({});
  const [busy, setBusy] = useState(false);
  const attempt = useRef<{ body: string; key: string }>(undefined);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(name.trim()), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [name]);
  const alike = useQuery({
    ...firstPageQuery("accounts", { q: settled, pageSize: 3 }),
    enabled: settled.length >= MIN_CHARACTERS,
  });

  const values = {
    displayName: name.trim(),
    kind: "COMPANY",
    ...(phone.trim() ? { phones: [{ number: phone.normalize("NFKC").trim(), primary: true }] } : {}),
  };
  const save = async (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    if (!name.trim()) return setErrors({ name: t("form.required") });
    const content = JSON.stringify(values);
    if (attempt.current?.body !== content) attempt.current = { body: content, key: crypto.randomUUID() };
    setBusy(true);
    setErrors({});
    try {
      const record = await create("accounts", values, attempt.current.key);
      attempt.current = undefined;
      if (resource) tell(t("form.created", { what: label(resource.label) }));
      void navigate(`/${record.name}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const of = (part: RegExp) =>
        error.violations.find((violation) => part.test(violation.field))?.description;
      const found = { name: of(/name/i), phone: of(/phone/i) };
      setErrors({
        ...(found.name ? { name: found.name } : {}),
        ...(found.phone ? { phone: found.phone } : {}),
        ...(found.name || found.phone ? {} : { other: error.message }),
      });
    } finally {
      setBusy(false);
    }
  };

  return (
    <form className="card home-new" onSubmit={(event) => void save(event)} noValidate>
      <h2>{t("home.newCustomer")}</h2>
      <div className="home-new-fields">
        <div className="form-field" data-invalid={errors.name ? "" : undefined}>
          <label htmlFor="new-name">{t("home.name")}</label>
          <Input
            id="new-name"
            value={name}
            status={errors.name ? "error" : ""}
            aria-invalid={Boolean(errors.name)}
            aria-describedby={errors.name ? "new-name-error" : undefined}
            maxLength={200}
            placeholder={t("home.nameHint")}
            onChange={(event) => setName(event.target.value)}
          />
          {errors.name && (
            <p className="field-error" id="new-name-error">
              {errors.name}
            </p>
          )}
        </div>
        <div className="form-field" data-invalid={errors.phone ? "" : undefined}>
          <label htmlFor="new-phone">{t("home.phone")}</label>
          <Input
            id="new-phone"
            value={phone}
            inputMode="tel"
            status={errors.phone ? "error" : ""}
            aria-invalid={Boolean(errors.phone)}
            aria-describedby={errors.phone ? "new-phone-error" : undefined}
            placeholder={t("home.phoneHint")}
            onChange={(event) => setPhone(event.target.value)}
          />
          {errors.phone && (
            <p className="field-error" id="new-phone-error">
              {errors.phone}
            </p>
          )}
        </div>
        <button type="submit" className="button button-primary" disabled={busy}>
          {t("action.create")}
        </button>
      </div>
      {errors.other && (
        <p className="field-error" role="alert">
          {errors.other}
        </p>
      )}
      <p className="faint home-alike" role="status">
        {settled.length >= MIN_CHARACTERS && alike.data && alike.data.records.length > 0 ? (
          <>
            {t("home.alike")}{" "}
            {alike.data.records.map((record) => (
              <Link key={record.name} to={`/${record.name}`}>
                {titleOf(record, resource, language)}
              </Link>
            ))}
          </>
        ) : (
          <button
            type="button"
            className="link"
            onClick={() => send({ kind: "create", collection: "accounts", values })}
          >
            {t("form.more")}
          </button>
        )}
      </p>
    </form>
  );
}
