import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { History } from "@/kit/history";
import { useResource } from "@/kit/queries";
import { RecordFrame } from "@/kit/record-frame";
import { Choices } from "./choices";
import { Impact } from "./impact";

export type Merge = Schema<"customer.Merge"> & RecordJson;

const SHOWN_OTHERWISE = ["choices", "contactPairs", "proposedPairs", "preview", "moved", "blockers"];

/** Several customers become one: whose values stay, what that changes, how far it is, and the way back. */
export function MergePage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("merges");
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={[...SHOWN_OTHERWISE, "acknowledgements", "left"]}
      banner={(record) => <Standing merge={record as Merge} />}
      tabs={(record) => {
        const merge = record as Merge;
        const open = ["DRAFT", "PREVIEWED"].includes(merge.state ?? "");
        return [
          ...(open
            ? [{ key: "choices", label: t("merge.choices"), content: <Choices merge={merge} /> }]
            : []),
          { key: "impact", label: t("merge.impact"), content: <Impact merge={merge} /> },
          { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
        ];
      }}
    />
  );
}

/** What stands against it, and until when it can be taken back. */
function Standing({ merge }: { merge: Merge }) {
  const { t, language } = useText();
  return (
    <>
      {(merge.blockers ?? []).map(({ reason }) => (
        <p key={reason} className="note note-bad" role="alert">
          {t(`merge.blocker.${reason}`)}
        </p>
      ))}
      {merge.state === "DONE" && merge.undoUntilTime && (
        <p className="banner" role="status">
          {t("merge.until", { time: formatInstant(merge.undoUntilTime, language) })}
        </p>
      )}
    </>
  );
}
