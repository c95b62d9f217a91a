import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { Countdown } from "@/kit/countdown";
import { Reference } from "@/kit/field-value";
import { History } from "@/kit/history";
import { useResource, useSession } from "@/kit/queries";
import { RecordFrame } from "@/kit/record-frame";
import { Evidence } from "./evidence";

/** A collision case: what is asked, who decides until when, and what both sides did. */
export function CollisionPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("duplicateCases");
  return (
    <RecordFrame
      resource={resource}
      name={name}
      banner={(record) => <Waiting record={record} />}
      tabs={(record) => [
        { key: "evidence", label: t("collision.evidence"), content: <Evidence record={record} /> },
        { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
      ]}
    />
  );
}

const STEPS = ["OPEN", "WAITING_OWNER", "IN_ARBITRATION", "DECIDED", "CLOSED"];

function Waiting({ record }: { record: RecordJson }) {
  const { t, label } = useText();
  const session = useSession();
  const state = String(record["state"] ?? "");
  const choices = useResource("duplicateCases").fields.find(({ name }) => name === "state")?.choices ?? [];
  const mine = record["waitingFor"] === session.employee && Boolean(record["waitingFor"]);
  const at = state === "APPEALED" ? "IN_ARBITRATION" : state;
  return (
    <>
      <ol className="steps" aria-label={t("collision.steps")}>
        {STEPS.map((step) => {
          const choice = choices.find(({ value }) => value === (step === at ? state : step));
          return (
            <li key={step} aria-current={step === at ? "step" : undefined}>
              {choice && label(choice.label)}
            </li>
          );
        })}
      </ol>
      {Boolean(record["waitingFor"]) && (
        <p className={mine ? "banner" : "sea-note"} role="status">
          {mine ? t("collision.yourTurn") : t("collision.waitsFor")}{" "}
          {!mine && <Reference name={String(record["waitingFor"])} />}{" "}
          {Boolean(record["deadline"]) && <Countdown until={String(record["deadline"])} />}
        </p>
      )}
    </>
  );
}
