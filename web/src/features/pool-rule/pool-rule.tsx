import { useText } from "@/i18n";
import { History } from "@/kit/history";
import { useResource } from "@/kit/queries";
import { RecordFrame } from "@/kit/record-frame";
import { Clauses } from "./clauses";
import { Simulation } from "./simulation";
import { Versions } from "./versions";

/** A version of the rules of a sea: its clauses as sentences, what it would have done, the versions before it. */
export function PoolRulePage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("poolRules");
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={["simulation"]}
      tabs={(record) => [
        { key: "clauses", label: t("poolRule.clauses"), content: <Clauses rule={record} /> },
        { key: "simulation", label: t("poolRule.simulation"), content: <Simulation rule={record} /> },
        { key: "versions", label: t("quote.versions"), content: <Versions rule={record} /> },
        { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
      ]}
    />
  );
}
