import { useState } from "react";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatDate } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { PlainTable } from "@/kit/plain-table";
import { useResource, useSession } from "@/kit/queries";
import { Empty } from "@/kit/states";
import { VerbDialog } from "@/kit/verbs";
import { useAmount } from "./amount";
import type { Target } from "./target";

/** What is done for the target: what each measure should bring, and what it brought. */
export function Actions({ target }: { target: Target }) {
  const { t, language } = useText();
  const session = useSession();
  const resource = useResource("targets");
  const amount = useAmount(target);
  const [open, setOpen] = useState<string>();
  const actions = target.actions ?? [];
  const finish = resource.verbs.find(({ name }) => name === "finishAction");
  const mayFinish = finish && may(session, finish.permission) && target.state !== "CLOSED";
  if (actions.length === 0)
    return (
      <section className="card">
        <Empty title={t("target.noActions")} text={t("target.noActionsText")} />
      </section>
    );
  return (
    <section className="card card-body">
      <h2>{t("target.actions")}</h2>
      <PlainTable
        caption={t("target.actions")}
        rows={actions}
        keyOf={({ key }, index) => key ?? index}
        stacked
        columns={[
          { key: "text", title: t("target.action"), row: true, cell: ({ text }) => text },
          {
            key: "who",
            title: t("target.who"),
            cell: ({ employee }) => employee && <Reference name={employee} />,
          },
          {
            key: "due",
            title: t("target.due"),
            cell: ({ dueDate }) => dueDate && formatDate(dueDate, language),
          },
          {
            key: "expected",
            title: t("target.expected"),
            number: true,
            cell: ({ expectedEffect }) => amount.exact(expectedEffect),
          },
          {
            key: "real",
            title: t("target.real"),
            number: true,
            cell: ({ realEffect }) => amount.exact(realEffect),
          },
          {
            key: "done",
            title: t("target.done"),
            cell: ({ key, text, done }) =>
              done ? (
                <span className="tag tag-good">{t("target.done")}</span>
              ) : (
                mayFinish && (
                  <button
                    type="button"
                    className="button"
                    aria-label={t("target.finish", { text })}
                    onClick={() => setOpen(key)}
                  >
                    {t("target.finishShort")}
                  </button>
                )
              ),
          },
        ]}
      />
      {finish && open !== undefined && (
        <VerbDialog
          record={target}
          verb={finish}
          given={{ action: open }}
          onClose={() => setOpen(undefined)}
        />
      )}
    </section>
  );
}
