import { useQuery } from "@tanstack/react-query";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { Page } from "@/kit/page";
import { recordQuery } from "@/kit/queries";
import { printRecord } from "@/kit/record-frame";
import { Loaded } from "@/kit/states";
import { type Health, healthQuery } from "./backups";

const STEPS = ["calm", "machine", "stop", "key", "verify", "restore", "start", "check", "after"] as const;

/** What to do when everything is gone, on one sheet of A4 that lies beside the key. */
export function RecoveryPage() {
  const { t } = useText();
  const query = useQuery(healthQuery);
  const proven = query.data?.proven ?? "";
  return (
    <Page
      title={t("recovery.title")}
      crumbs={[{ label: t("page.backups"), path: "/backups" }]}
      note={<p className="faint">{t("recovery.text")}</p>}
      actions={
        <button
          type="button"
          className="button button-primary"
          onClick={() => void printRecord(proven || "backups/none")}
        >
          {t("recovery.print")}
        </button>
      }
    >
      <Loaded query={query} lines={8}>
        {(health) => <Sheet health={health} />}
      </Loaded>
    </Page>
  );
}

function Sheet({ health }: { health: Health }) {
  const { t, language } = useText();
  const backup = useQuery({ ...recordQuery(health.proven ?? ""), enabled: Boolean(health.proven) });
  const number = String(backup.data?.["number"] ?? t("recovery.newest"));
  const facts = [
    ["number", number],
    ["made", formatInstant(String(backup.data?.["finishTime"] ?? ""), language)],
    ["proof", formatInstant(health.proofTime, language)],
    ["location", health.location],
    ["keyId", health.keyId],
    ["printed", formatInstant(new Date().toISOString(), language)],
  ] as const;
  return (
    <article className="card card-body stack recovery">
      <dl className="pairs">
        {facts.map(([key, value]) => (
          <div key={key} className="pair">
            <dt>{t(`recovery.fact.${key}`)}</dt>
            <dd>{value || "–"}</dd>
          </div>
        ))}
      </dl>
      <ol className="stack">
        {STEPS.map((step) => (
          <li key={step}>
            <strong>{t(`recovery.step.${step}.title`)}</strong>
            <p>{t(`recovery.step.${step}.text`)}</p>
            {COMMANDS[step] && <pre>{COMMANDS[step](number)}</pre>}
          </li>
        ))}
      </ol>
      <p>{t("recovery.signed")}</p>
    </article>
  );
}

const COMMANDS: Partial<Record<(typeof STEPS)[number], (number: string) => string>> = {
  verify: (number) => `python -m local_platform.backup verify ${number}`,
  restore: (number) => `make restore KEY=/elsewhere/backup.key ARGS="${number} --confirmed-by <A> <B>"`,
  start: () => "make run",
};
